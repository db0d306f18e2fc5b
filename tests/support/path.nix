# One store path of a name: BYTES that do not compress, and references to the store paths DEPS.
{ name, bytes ? 64, deps ? [ ] }:
derivation {
  inherit name bytes;
  system = builtins.currentSystem;
  deps = map builtins.storePath deps;
  builder = "/bin/sh";
  PATH = "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin";
  args = [ "-c" ''
    mkdir "$out"
    head -c "$bytes" /dev/urandom >"$out/data"
    printf '#!/bin/sh\necho hello from %s\n' "$name" >"$out/hello"
    chmod +x "$out/hello"
    ln -s hello "$out/greet"
    echo $deps >"$out/needs"
  '' ];
}
