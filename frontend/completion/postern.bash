# bash completion of postern, mtr-packet and tracepath. The options are those that --help lists.
_postern()
{
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
	local program=("${COMP_WORDS[0]}") help words

	if [[ ${program##*/} == postern ]]; then
		if ((COMP_CWORD == 1)); then
			COMPREPLY=($(compgen -W 'packet tracepath doctor --help --version' -- "$current"))
			return
		fi
		program+=("${COMP_WORDS[1]}")
	fi
	help=$("${program[@]}" --help 2>&1)

	case $before in
	-P) words='icmp udp tcp' ;;
	-I) words=$(cd /sys/class/net && echo *) ;;
	--compat) words='0.95 0.96' ;;
	--broker)
		compopt -o filenames
		COMPREPLY=($(compgen -f -- "$current"))
		return
		;;
	-*)
		# Nothing is known of the argument of another option.
		grep -qE -- "^  (-., )?$before [<A-Z]" <<<"$help" && return
		;;
	esac
	if [[ -z $words && $current == -* ]]; then
		words=$(sed -nE 's/^  (-[^ ,]+)(, (-[^ ,]+))?.*/\1 \3/p' <<<"$help")
	fi
	if [[ -n $words ]]; then
		COMPREPLY=($(compgen -W "$words" -- "$current"))
	elif [[ ${program[-1]##*/} == tracepath* ]]; then
		COMPREPLY=($(compgen -A hostname -- "$current"))
	fi
}
complete -F _postern postern mtr-packet tracepath tracepath4 tracepath6
