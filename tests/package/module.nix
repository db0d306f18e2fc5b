# What services.nncache comes to: the names of the checks that failed, and the nncache.conf of the last example.
let
  inherit (import ./stand_ins.nix) evaluate lib pkgs;

  broken = system: map (a: a.message) (lib.filter (a: !a.assertion) (evaluate system).assertions);
  says = what: message: builtins.match ".*${what}.*" message != null;

  plain = { services.nncache.enable = true; };
  full = {
    services.nncache = {
      enable = true;
      settings.daemon.memory = "128M";
      caches.main = {
        url = "https://cache.example.org/nix";
        signing-key-file = [ "one.secret" "two.secret" ];
        upload-jobs = 8;
        upstreams = [ ];
        region = null;
      };
      caches.disk = {
        url = "file:///srv/cache";
        sign = false;
      };
      upstreams.team = {
        url = "https://team.example.org";
        public-key = "team-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        keeps-forever = true;
      };
      priorities.rust = {
        match = "-deps-";
        priority = 100;
      };
      credentials."one.secret" = "/run/secrets/one";
    };
  };
  with' = more: plain // more;
  unit = (evaluate full).systemd.services.nncached.serviceConfig;
  written = (evaluate full).environment.etc."nncache/nncache.conf".source;

  package = (import ../../nix/package.nix) (
    lib.mapAttrs (_: _: null) (builtins.functionArgs (import ../../nix/package.nix))
    // {
      inherit lib;
      withTests = false;
      stdenv.mkDerivation = f: let self = f { finalAttrs = self; finalPackage = "/out"; }; in self;
    }
  );

  flake = (import ../../flake.nix).outputs {
    self = flake;
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
        callPackage = file: { }: assert builtins.pathExists file; "/${system}";
      });
    };
  };

  checks = {
    "the flake's default app is nncachectl" =
      flake.apps.aarch64-linux.default.program == "/aarch64-linux/bin/nncachectl";
    "the flake's module is this one" = flake.nixosModules.default == ../../nix/module.nix;
    "the flake's overlay has the package" =
      (flake.overlays.default { callPackage = file: { }: baseNameOf file; } { }).nncache == "package.nix";
    "not enabled, it makes nothing" = !(evaluate { } ? systemd) && (evaluate { }).nix.settings == { };
    "it is the post-build-hook" = (evaluate plain).nix.settings.post-build-hook == "/nncache/lib/nncache/hook";
    "alone, it breaks no assertion" = broken plain == [ ] && broken full == [ ];
    "another hook in nix.settings breaks one" =
      map (says "another post-build-hook") (broken (with' { nix.settings.post-build-hook = "/other"; })) == [ true ];
    "another hook in nix.extraOptions breaks one" =
      map (says "another post-build-hook") (broken (with' { nix.extraOptions = "cores = 1\npost-build-hook = /other\n"; }))
      == [ true ];
    "a comment on hooks does not" = broken (with' { nix.extraOptions = "# post-build-hook = /other\n"; }) == [ ];
    "a secret in the store breaks one" =
      map (says "read by everybody") (
        broken { services.nncache = { enable = true; credentials.a = "${builtins.storeDir}/a"; }; }
      ) == [ true ];
    "its user is added to allowed-users" = (evaluate plain).nix.settings.extra-allowed-users == [ "nncache" ];
    "credentials are handed to the service" = unit.LoadCredential == [ "one.secret:/run/secrets/one" ];
    "the service may write to a cache on a disk" = unit.ReadWritePaths == [ "-/srv/cache" ];
    "the socket is wanted" = (evaluate plain).systemd.sockets.nncached.wantedBy == [ "sockets.target" ];
    "a default that is emptied is written" = says "\nupstreams = \n" written;
    "what is null is not written" = !(says "region" written);
    "every key of a list is written" = says "signing-key-file = one.secret\nsigning-key-file = two.secret\n" written;
    "the package has the sources' version" = builtins.match "[0-9]+\\.[0-9]+\\.[0-9]+" package.version != null;
    "the package puts the hook below lib" = builtins.elem "--libexecdir=lib" package.mesonFlags;
  };
in
{
  failed = lib.attrNames (lib.filterAttrs (_: holds: !holds) checks);
  inherit written;
}
