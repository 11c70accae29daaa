# Who listens where, and what answers. These only look. Sourced by install.sh.
#
# No `grep -q` at the end of a pipe: it ends early, and what writes to it then fails, which counts here (pipefail).
# shellcheck shell=bash
# shellcheck disable=SC2154 # DEFAULT_PORT is install.sh's

readonly GATEWAY_SOCKET=boxgate-gateway.socket
# Says what the gateway's socket listens on, where that is not what its unit says.
readonly GATEWAY_PORT_FILE=/etc/systemd/system/$GATEWAY_SOCKET.d/port.conf

is_port() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 < 65536)); }

# The gateway's, as an earlier run left it.
gateway_port() {
    local port=''
    [[ ! -f $GATEWAY_PORT_FILE ]] || port=$(sed -n 's/^ListenStream=\([0-9]\+\)$/\1/p' "$GATEWAY_PORT_FILE")
    echo "${port:-$DEFAULT_PORT}"
}

# listener PORT: whose it is: gateway, sshd, another program's name, or nothing. systemd listens for others.
listener() {
    local names unit
    names=$(ss -Hltnp "sport = :$1" | sed -n 's/.*users:(("\([^"]*\)".*/\1/p' | sort -u)
    case $names in
        '') [[ -z $(ss -Hltn "sport = :$1") ]] || echo "a program of another container or machine" ;;
        *boxgate*) echo gateway ;;
        *sshd*) echo sshd ;;
        systemd)
            for unit in "$GATEWAY_SOCKET=gateway" ssh.socket=sshd sshd.socket=sshd; do
                if systemctl is-active --quiet "${unit%=*}" && systemctl show --property Listen "${unit%=*}" | grep ":$1 " >/dev/null; then
                    echo "${unit#*=}"
                    return
                fi
            done
            echo systemd
            ;;
        *) echo "$names" ;;
    esac
}

# ssh_answers PORT: whether an SSH server says its name there, on the address that it listens on.
ssh_answers() {
    local try address
    for try in {1..50}; do
        address=$(ss -Hltn "sport = :$1" | awk '{ sub(/:[0-9]+$/, "", $4); print $4; exit }')
        address=${address#[} address=${address%]} address=${address%\%*}
        [[ $address != 0.0.0.0 && $address != '*' ]] || address=127.0.0.1
        [[ $address != :: ]] || address=::1
        # shellcheck disable=SC2016 # the inner shell's own arguments
        if [[ -n $address ]] && timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" && head -c 8 <&3 | grep -q "^SSH-2.0-"' "$address" "$1" 2>/dev/null; then
            return 0
        fi
        ((try == 50)) || sleep 0.1
    done
    return 1
}

# What keeps others from a port that is open here: ufw, firewalld or nothing.
firewall() {
    if have ufw && LC_ALL=C ufw status 2>/dev/null | grep '^Status: active' >/dev/null; then
        echo ufw
    elif have firewall-cmd && firewall-cmd --quiet --state 2>/dev/null; then
        echo firewalld
    fi
}

# let_in PORT: whether that firewall lets anybody in there.
let_in() {
    case $(firewall) in
        ufw) LC_ALL=C ufw status | grep -E "^($1|$1/tcp)( \(v6\))? +(ALLOW|LIMIT)" >/dev/null ;;
        firewalld) firewall-cmd --quiet --query-port="$1/tcp" ;;
    esac
}

open_firewall() {
    local open
    ((open_ports)) || return 0
    for open in "$port" ${sshd_to:+"$sshd_to"}; do
        let_in "$open" && continue
        say "letting others in on port $open"
        case $(firewall) in
            ufw) run ufw allow "$open/tcp" comment Boxgate ;;
            firewalld)
                run firewall-cmd --quiet --permanent --add-port="$open/tcp"
                run firewall-cmd --quiet --add-port="$open/tcp"
                ;;
        esac
    done
}
