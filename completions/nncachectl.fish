# fish completion for nncachectl

function __nncachectl_caches
    nncachectl status --json 2>/dev/null | string replace -rf '^ *"name": "([^"\\\\]*)".*' '$1'
end

set -l verbs status metrics list show push catch-up wait retry forget pause resume verify config hook use doctor run session

complete -c nncachectl -f
complete -c nncachectl -l socket -r -F -d 'where the daemon listens'
complete -c nncachectl -l json -d 'print JSON'
complete -c nncachectl -l help -d 'print help'
complete -c nncachectl -l version -d 'print the version'

set -l first "not __fish_seen_subcommand_from $verbs"
complete -c nncachectl -n "$first" -a status -d 'show what is uploaded, what waits and why'
complete -c nncachectl -n "$first" -a metrics -d 'print what Prometheus wants to know'
complete -c nncachectl -n "$first" -a list -d 'list paths and their state on each cache'
complete -c nncachectl -n "$first" -a show -d 'show one path on every cache'
complete -c nncachectl -n "$first" -a push -d 'upload paths with their closures'
complete -c nncachectl -n "$first" -a catch-up -d 'find what was built and never reported'
complete -c nncachectl -n "$first" -a wait -d 'wait until uploads are finished'
complete -c nncachectl -n "$first" -a retry -d 'try again now'
complete -c nncachectl -n "$first" -a forget -d 'drop uploads without doing them'
complete -c nncachectl -n "$first" -a pause -d 'upload nothing to a cache'
complete -c nncachectl -n "$first" -a resume -d 'end a pause'
complete -c nncachectl -n "$first" -a verify -d 'look whether a cache has what it should'
complete -c nncachectl -n "$first" -a config -d 'check the configuration, or show it'
complete -c nncachectl -n "$first" -a hook -d "make it Nix's post-build-hook, or end that"
complete -c nncachectl -n "$first" -a use -d 'have Nix on this machine read a cache'
complete -c nncachectl -n "$first" -a doctor -d 'find out what is wrong, and what mends it'
complete -c nncachectl -n "$first" -a run -d 'run a command and upload what it builds'
complete -c nncachectl -n "$first" -a session -d 'the same for a job of several steps'

complete -c nncachectl -n '__fish_seen_subcommand_from status' -l watch -d 'show it again and again'
complete -c nncachectl -n '__fish_seen_subcommand_from metrics' -l output -r -F -d 'write this file'
complete -c nncachectl -n '__fish_seen_subcommand_from list' -l state -x \
    -a 'unfinished all ready delayed sent blocked failed done' -d 'only in this state'
complete -c nncachectl -n '__fish_seen_subcommand_from list retry forget' -l cache -x -a '(__nncachectl_caches)' \
    -d 'only of this cache'
complete -c nncachectl -n '__fish_seen_subcommand_from retry forget' -l failed -d 'all that failed or is blocked'
complete -c nncachectl -n '__fish_seen_subcommand_from push' -l stdin -d 'read paths from standard input'
complete -c nncachectl -n '__fish_seen_subcommand_from push catch-up' -l to -x -a '(__nncachectl_caches)' -d 'only to this cache'
complete -c nncachectl -n '__fish_seen_subcommand_from push' -l force -d 'ask the caches again'
complete -c nncachectl -n '__fish_seen_subcommand_from push' -l no-wait -d 'return once accepted'
complete -c nncachectl -n '__fish_seen_subcommand_from push wait' -l tag -x -d 'the tag of what is handed over'
complete -c nncachectl -n '__fish_seen_subcommand_from catch-up' -l since -x -d 'built no longer ago than this'
complete -c nncachectl -n '__fish_seen_subcommand_from catch-up' -l dry-run -d 'only list them'
complete -c nncachectl -n '__fish_seen_subcommand_from catch-up' -l yes -d 'do not ask'
complete -c nncachectl -n '__fish_seen_subcommand_from verify' -l repair -d 'upload again what can be mended by that'
complete -c nncachectl -n '__fish_seen_subcommand_from verify' -l deep -d 'read, unpack and hash every NAR'
complete -c nncachectl -n '__fish_seen_subcommand_from wait' -l timeout -x -d 'give up after this time'
complete -c nncachectl -n '__fish_seen_subcommand_from pause resume' -l all -d 'every cache'
complete -c nncachectl -n '__fish_seen_subcommand_from pause' -l for -x -d 'resume after this time'
complete -c nncachectl -n '__fish_seen_subcommand_from pause resume verify' -a '(__nncachectl_caches)'
complete -c nncachectl -n '__fish_seen_subcommand_from show push wait retry forget' -F
complete -c nncachectl -n '__fish_seen_subcommand_from config' -a 'check show'
complete -c nncachectl -n '__fish_seen_subcommand_from hook' -a 'enable disable status'
complete -c nncachectl -n '__fish_seen_subcommand_from hook use' -l dry-run -d 'change nothing'
complete -c nncachectl -n '__fish_seen_subcommand_from hook use' -l yes -d 'restart nix-daemon'
complete -c nncachectl -n '__fish_seen_subcommand_from use' -l public-key -x -d 'a key that signs its paths'
complete -c nncachectl -n '__fish_seen_subcommand_from use' -l token-file -r -F -d 'what a private cache wants'
complete -c nncachectl -n '__fish_seen_subcommand_from use' -l endpoint -x -d 'the server'
complete -c nncachectl -n '__fish_seen_subcommand_from doctor' -l config -r -F -d 'the configuration of nncached'
complete -c nncachectl -n '__fish_seen_subcommand_from doctor' -l verbose -d 'say more'

set -l job '__fish_seen_subcommand_from run session'
complete -c nncachectl -n "$job" -l cache -x -d 'upload there'
complete -c nncachectl -n "$job" -l config -r -F -d 'upload as this nncache.conf says'
complete -c nncachectl -n "$job" -l exclude-roots -x -d 'do not upload built paths that match'
complete -c nncachectl -n "$job" -l also -r -F -d 'upload this too'
complete -c nncachectl -n "$job" -l no-push -d 'upload nothing'
complete -c nncachectl -n "$job" -l drain-timeout -x -d 'how long to wait at the end'
complete -c nncachectl -n "$job" -l best-effort -d 'uploads that fail are said, and fail nothing'
complete -c nncachectl -n '__fish_seen_subcommand_from session' -a 'start stop'
complete -c nncachectl -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand)'
