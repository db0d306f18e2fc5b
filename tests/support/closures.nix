# A program for each of NAMES, each with a dependency of its own: BYTES that do not compress, and a reference.
{ names, bytes ? 64 }:
let
  path = import ./path.nix;
in
map (name: derivation {
  inherit name bytes;
  system = builtins.currentSystem;
  dependency = path { name = "${name}-dependency"; };
  builder = "/bin/sh";
  PATH = "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin";
  args = [ "-c" ''
    mkdir "$out"
    head -c "$bytes" /dev/urandom >"$out/data"
    echo "$dependency" >"$out/needs"
  '' ];
}) names
