# bash completion for nncachectl
# shellcheck shell=bash

_nncachectl_caches() {
	nncachectl status --json 2>/dev/null | sed -n 's/^ *"name": "\([^"\\]*\)".*/\1/p'
}

_nncachectl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' word i
	local verbs='status metrics list show push catch-up wait retry forget pause resume verify config hook use doctor run session'
	local options='--socket --json --help --version' words=''
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket) ((i++)) ;;
		-*) ;;
		*)
			verb=$word
			break
			;;
		esac
	done
	case $prev in
	--socket | --output | --token-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--state)
		mapfile -t COMPREPLY < <(compgen -W 'unfinished all ready delayed sent blocked failed done' -- "$cur")
		return
		;;
	--cache | --to)
		# Of a job it is a URL.
		[[ $verb != run && $verb != session ]] || return
		mapfile -t COMPREPLY < <(compgen -W "$(_nncachectl_caches)" -- "$cur")
		return
		;;
	--config | --also)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--tag | --timeout | --for | --since | --public-key | --endpoint | --exclude-roots | --drain-timeout) return ;;
	esac
	case $verb in
	'') words=$verbs ;;
	status) options+=' --watch' ;;
	metrics) options+=' --output' ;;
	list) options+=' --state --cache' ;;
	push) options+=' --stdin --to --force --no-wait --tag' ;;
	catch-up) options+=' --since --to --dry-run --yes' ;;
	wait) options+=' --tag --timeout' ;;
	retry | forget) options+=' --failed --cache' ;;
	pause)
		options+=' --all --for'
		[[ $cur == -* ]] || words=$(_nncachectl_caches)
		;;
	resume)
		options+=' --all'
		[[ $cur == -* ]] || words=$(_nncachectl_caches)
		;;
	hook)
		options+=' --dry-run --yes'
		words='enable disable status'
		;;
	use) options+=' --public-key --token-file --endpoint --dry-run --yes' ;;
	doctor) options+=' --config --verbose' ;;
	verify)
		options+=' --repair --deep'
		[[ $cur == -* ]] || words=$(_nncachectl_caches)
		;;
	config) [[ $prev != config ]] || words='check show' ;;
	run | session)
		options+=' --cache --config --exclude-roots --also --no-push --drain-timeout --best-effort'
		[[ $verb != session || $prev != session ]] || words='start stop'
		;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [[ -n $words ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	else
		case $verb in
		show | push | wait | retry | forget | config | run)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			;;
		esac
	fi
}

complete -F _nncachectl nncachectl
