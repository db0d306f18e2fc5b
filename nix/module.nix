# services.nncache for NixOS. As package.nix, checked against stand-ins only (tests/package/nix_eval).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.nncache;
  hook = "${cfg.package}/lib/nncache/hook";

  format = pkgs.formats.ini {
    listsAsDuplicateKeys = true;
    mkKeyValue = lib.generators.mkKeyValueDefault {
      mkValueString =
        value:
        if value == true then
          "yes"
        else if value == false then
          "no"
        else
          lib.generators.mkValueStringDefault { } value;
    } " = ";
  };

  # An empty list is said as "key =", which empties a default; null says nothing.
  sectionToWrite =
    section:
    lib.mapAttrs (_: value: if value == [ ] then "" else value) (lib.filterAttrs (_: value: value != null) section);
  written = format.generate "nncache.conf" (lib.mapAttrs (_: sectionToWrite) cfg.settings);

  # Wrong settings fail the build of the system. The files they name are not there then.
  configFile =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "nncache.conf" { } ''
        ${cfg.package}/bin/nncached --check-config --no-files --config ${written}
        cp ${written} $out
      ''
    else
      written;

  sections =
    kind: attrs:
    lib.mapAttrs' (name: value: {
      name = "${kind} \"${name}\"";
      inherit value;
    }) attrs;

  # What the sandbox of the service must let it write.
  directories = map (lib.removePrefix "file://") (
    lib.filter (lib.hasPrefix "file:///") (lib.mapAttrsToList (_: cache: cache.url) cfg.caches)
  );

  sectionsOf =
    options:
    lib.types.attrsOf (
      lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.anything; # the type of settings says more
        inherit options;
      }
    );
  required =
    type: description:
    lib.mkOption {
      inherit type description;
    };
in
{
  options.services.nncache = {
    enable = lib.mkEnableOption "nncache, which uploads what is built to binary caches";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.nncache or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.nncache";
      description = "The package with the hook, the daemon and nncachectl.";
    };

    settings = lib.mkOption {
      type = format.type;
      default = { };
      example = {
        daemon.memory = "128M";
      };
      description = ''
        Sections of {manpage}`nncache.conf(5)` and their keys. Lists are for keys that may be given more than once.
        The options {option}`caches`, {option}`upstreams` and {option}`priorities` become sections here.
      '';
    };

    caches = lib.mkOption {
      type = sectionsOf { url = required lib.types.str "Where the cache is."; };
      default = { };
      example = {
        main = {
          url = "https://cache.example.org/nix";
          signing-key-file = "main.secret";
        };
      };
      description = "Caches to fill: keys of [cache] sections of {manpage}`nncache.conf(5)`.";
    };

    upstreams = lib.mkOption {
      type = sectionsOf { };
      default = { };
      description = "Caches that readers ask as well: keys of [upstream] sections of {manpage}`nncache.conf(5)`.";
    };

    priorities = lib.mkOption {
      type = sectionsOf {
        match = required lib.types.str "Regular expression searched in store paths.";
        priority = required lib.types.int "Higher goes first; what no class matches has 50.";
      };
      default = { };
      description = "Classes of paths that go before or after others.";
    };

    credentials = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      default = { };
      example = {
        "main.secret" = "/run/secrets/nncache-main";
      };
      description = ''
        Files with tokens and keys, by the names that settings have for them. systemd reads them as root. They are
        strings, since a Nix path would be copied to the store, where everybody can read it.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion =
          toString config.nix.settings.post-build-hook == hook
          && builtins.match "(.*\n)?[ \t]*post-build-hook[ \t].*" config.nix.extraOptions == null;
        message = ''
          services.nncache: another post-build-hook is set in nix.settings or nix.extraOptions, and Nix has room for one.
          Let a script of yours call both, the one of nncache being ${hook}, or take the other one out.
        '';
      }
      {
        assertion = lib.all (file: !lib.hasPrefix builtins.storeDir file) (lib.attrValues cfg.credentials);
        message = "services.nncache.credentials: a file in ${builtins.storeDir} can be read by everybody.";
      }
    ];

    services.nncache.settings = lib.mkMerge [
      (sections "cache" cfg.caches)
      (sections "upstream" cfg.upstreams)
      (sections "priority" cfg.priorities)
    ];

    nix.settings = {
      # So that another definition comes to the assertion, which says what to do.
      post-build-hook = lib.mkDefault hook;
      # Nix adds it to allowed-users, whatever that is; everybody is allowed where it is not set.
      extra-allowed-users = [ "nncache" ];
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc."nncache/nncache.conf".source = configFile;

    users.users.nncache = {
      isSystemUser = true;
      group = "nncache";
      description = "Nix binary cache uploader";
      home = "/var/lib/nncache";
    };
    users.groups.nncache = { };

    systemd.packages = [ cfg.package ];
    systemd.tmpfiles.packages = [ cfg.package ];
    # NixOS does not heed [Install].
    systemd.sockets.nncached.wantedBy = [ "sockets.target" ];
    systemd.services.nncached = {
      wantedBy = [ "multi-user.target" ];
      reloadTriggers = [ configFile ];
      serviceConfig = {
        ExecReload = [
          ""
          "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
        ];
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
        ReadWritePaths = map (directory: "-${directory}") directories;
      };
    };
  };
}
