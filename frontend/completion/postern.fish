# fish completion of postern, mtr-packet and tracepath. The options are those that --help lists.
function __postern_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -l before $words[-1]

    if string match -qr '(^|/)postern$' -- $program
        if test (count $words) = 1
            printf '%s\n' packet tracepath doctor --help --version
            return
        end
        set -a program $words[2]
    end
    set -l help ($program --help 2>&1)

    switch $before
        case -P
            printf '%s\n' icmp udp tcp
            return
        case -I
            command ls /sys/class/net
            return
        case --compat
            printf '%s\n' 0.95 0.96
            return
        case --broker
            __fish_complete_path (commandline -ct)
            return
        case '-*'
            # Nothing is known of the argument of another option.
            string match -qr -- "^  (-., )?$before [<A-Z]" $help
            and return
    end

    if string match -q -- '-*' (commandline -ct)
        printf '%s\n' $help | sed -nE -e h \
            -e 's/^  (-[^ ,]+)(, -[^ ,]+)?( [<A-Z][^ ]*)?  +/\1\t/p' \
            -e g -e 's/^  -., (-[^ ,]+)( [<A-Z][^ ]*)?  +/\1\t/p'
    else if string match -qr '(^|/)tracepath[46]?$' -- $program[-1]
        __fish_print_hostnames
    end
end

for name in postern mtr-packet tracepath tracepath4 tracepath6
    complete -c $name -e
    complete -c $name -f -a '(__postern_complete)'
end
