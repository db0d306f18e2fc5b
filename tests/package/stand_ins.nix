# As much of nixpkgs' lib, pkgs and module system as nix/ asks for, in few lines; nixpkgs itself is not at hand where the
# tests run. What these lack of the real ones (types are not checked, priorities hardly) is not tested.
rec {
  lib = rec {
    inherit (builtins) all attrNames attrValues filter mapAttrs;
    id = x: x;
    optional = cond: x: if cond then [ x ] else [ ];
    filterAttrs = keep: set: builtins.listToAttrs (filter (p: keep p.name p.value) (pairs set));
    mapAttrs' = f: set: builtins.listToAttrs (map (p: f p.name p.value) (pairs set));
    mapAttrsToList = f: set: map (p: f p.name p.value) (pairs set);
    pairs = set: map (name: { inherit name; value = set.${name}; }) (attrNames set);
    genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
    hasPrefix = prefix: s: builtins.substring 0 (builtins.stringLength prefix) s == prefix;
    removePrefix = prefix: s: if hasPrefix prefix s then builtins.substring (builtins.stringLength prefix) (-1) s else s;
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
    recursiveUpdate =
      a: b:
      a // mapAttrs (n: v: if a ? ${n} && builtins.isAttrs v && builtins.isAttrs a.${n} then recursiveUpdate a.${n} v else v) b;
    literalExpression = id;
    licenses.mit = "MIT";
    platforms.linux = [ "x86_64-linux" ];
    cleanSource = id;
    cleanSourceWith = { src, filter }: src;

    mkOption = id;
    mkEnableOption = description: { default = false; };
    mkIf = cond: content: if cond then content else { };
    mkMerge = builtins.foldl' recursiveUpdate { };
    mkDefault = content: { isDefault = true; inherit content; };

    # A type is what puts defaults into a value.
    types = {
      anything = id;
      int = id;
      package = id;
      str = id;
      attrsOf = type: mapAttrs (_: type);
      submodule = { options, freeformType }: withDefaults options;
    };
    withDefaults = options: value: value // mapAttrs (n: o: (o.type or id) (value.${n} or o.default)) options;

    generators = {
      mkValueStringDefault = { }: toString;
      mkKeyValueDefault = { mkValueString }: sep: key: value: "${key}${sep}${mkValueString value}";
    };
  };

  pkgs = {
    formats.ini = { listsAsDuplicateKeys, mkKeyValue }: {
      type = lib.id;
      generate =
        name: sections:
        let
          lines = key: value: map (v: mkKeyValue key v + "\n") (if builtins.isList value then value else [ value ]);
          section = p: "[${p.name}]\n" + lib.concatMapStrings (q: builtins.concatStringsSep "" (lines q.name q.value)) (lib.pairs p.value);
        in
        lib.concatMapStrings section (lib.pairs sections);
    };
    # The file that a build would make is its script here.
    runCommand = name: env: script: script;
    stdenv.buildPlatform.canExecute = platform: false;
    stdenv.hostPlatform = { };
    coreutils = "/coreutils";
    nncache = "/nncache";
  };

  # evaluate SYSTEM: what the module makes of a configuration that says SYSTEM.
  evaluate =
    system:
    let
      module = import ../../nix/module.nix { inherit lib pkgs; config = seen; };
      made = module.config;
      said = lib.withDefaults module.options.services.nncache (system.services.nncache or { });
      resolve = made: said: lib.mapAttrs (_: v: if v ? isDefault then v.content else v) made // said;
      seen = {
        services.nncache = said // {
          settings = lib.recursiveUpdate said.settings (made.services.nncache.settings or { });
        };
        nix = {
          settings = resolve (made.nix.settings or { }) (system.nix.settings or { });
          extraOptions = system.nix.extraOptions or "";
        };
      };
    in
    made // seen;
}
