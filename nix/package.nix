# Written for nixpkgs' callPackage. What can be checked without nixpkgs is, by tests/package/nix_eval, against small
# stand-ins; nobody has built this with nixpkgs yet.
{
  lib,
  stdenv,
  meson,
  ninja,
  pkg-config,
  curl,
  expat,
  inih,
  jansson,
  libsodium,
  libuv,
  openssl,
  sqlite,
  systemd,
  zstd,
  cmocka,
  withTests ? false,
}:
let
  version = builtins.head (builtins.match ".*\n  version: '([^']*)'.*" (builtins.readFile ../meson.build));
in
stdenv.mkDerivation (finalAttrs: {
  pname = "nncache";
  inherit version;

  src = lib.cleanSourceWith {
    src = lib.cleanSource ../.;
    filter = path: type: baseNameOf path != "build";
  };

  nativeBuildInputs = [
    meson
    ninja
    pkg-config
  ];
  buildInputs = [
    curl
    expat
    inih
    jansson
    libsodium
    libuv
    openssl
    sqlite
    systemd
    zstd
  ] ++ lib.optional withTests cmocka;

  # After nixpkgs' own --libexecdir: the hook is lib/nncache/hook wherever it is installed.
  mesonFlags = [
    "--libexecdir=lib"
    "-Dsystemd=enabled"
    "-Dtests=${if withTests then "enabled" else "disabled"}"
  ];
  mesonBuildType = "release";
  doCheck = withTests;

  passthru.hook = "${finalAttrs.finalPackage}/lib/nncache/hook";

  meta = {
    description = "Durable upload queue for Nix's post-build-hook";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "nncachectl";
  };
})
