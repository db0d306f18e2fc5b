{
  description = "Durable upload queue for Nix's post-build-hook";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = nixpkgs.lib.genAttrs systems;
    in
    {
      packages = forAllSystems (system: rec {
        nncache = nixpkgs.legacyPackages.${system}.callPackage ./nix/package.nix { };
        default = nncache;
      });

      apps = forAllSystems (system: rec {
        nncachectl = {
          type = "app";
          program = "${self.packages.${system}.nncache}/bin/nncachectl";
        };
        nncached = {
          type = "app";
          program = "${self.packages.${system}.nncache}/bin/nncached";
        };
        default = nncachectl;
      });

      overlays.default = final: previous: { nncache = final.callPackage ./nix/package.nix { }; };

      nixosModules = rec {
        nncache = ./nix/module.nix;
        default = nncache;
      };
    };
}
