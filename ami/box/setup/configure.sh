#!/bin/sh
# Turns the installed packages into a box. Runs once, inside `docker build`, after
# rootfs/ was copied over the image; everything that a plain file can say is there.
set -eu

# --- identity: nothing secret or unique may be shared between boxes -----------------

rm -f /etc/ssh/ssh_host_*
# Empty, not missing: each container gets an id of its own at its first start, and
# systemd does not take that start for a "first boot" that resets enabled units.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
ln -s /etc/machine-id /var/lib/dbus/machine-id

# Ubuntu's images come with a user of uid 1000, which is the developer's.
if id ubuntu >/dev/null 2>&1; then
    userdel --remove ubuntu 2>/dev/null || userdel ubuntu
fi
# The box's account, under a name that nobody can have: make-user gives it the
# developer's. To add one takes a dozen writes to disk, which each first login would
# wait for.
useradd --uid 1000 --user-group --groups sudo,docker --shell /bin/bash \
    --home-dir /home/_boxgate --no-create-home --password '*' _boxgate
chmod 440 /etc/sudoers.d/boxgate
visudo -c >/dev/null

# --- locale, prompt, completion -----------------------------------------------------

echo 'en_US.UTF-8 UTF-8' >>/etc/locale.gen
locale-gen >/dev/null
echo 'LANG=C.UTF-8' >/etc/default/locale
sh /tmp/setup/locales.sh
# What PAM sets, sshd puts over what the client sent. The default is for whose client sent nothing, so the shells set it:
# bash reads this file for commands, too, before it finds that it is not interactive.
sed -i 's| envfile=/etc/default/locale||' /etc/pam.d/sshd
sed -i '1i . /etc/profile.d/boxgate-locale.sh' /etc/bash.bashrc

# Show git's branch in the distribution's own prompt: insert it before the `\$ ` of
# each PS1 line, both for root and for new homes.
for file in /etc/bash.bashrc /etc/skel/.bashrc; do
    # shellcheck disable=SC2016 # the file's shell expands it
    sed -i '/PS1=/s/\\w\(\\\[\\033\[00m\\\]\)\{0,1\}\\\$/\\w\1$(__git_ps1 " (%s)")\\$/' "$file"
    grep -q __git_ps1 "$file"
done
echo '. /usr/lib/boxgate/git-prompt.bash' >>/etc/bash.bashrc

for program in kind kubectl helm; do
    if command -v "$program" >/dev/null; then
        "$program" completion bash >"/usr/share/bash-completion/completions/$program"
    fi
done

# Go's own commands, where it is no package.
if [ -d /usr/local/go/bin ]; then
    ln -sf ../go/bin/go ../go/bin/gofmt /usr/local/bin/
fi

# --- logging in ---------------------------------------------------------------------

# The kernel may refuse to set a login uid in a container; that is no reason to
# refuse the login.
sed -i 's/^\(session *\)required\( *pam_loginuid\.so\)/\1optional\2/' /etc/pam.d/*
# The dynamic greeting costs time at each connection and advertises; a box says
# nothing.
if [ -d /etc/update-motd.d ]; then
    chmod -x /etc/update-motd.d/* 2>/dev/null || true
fi
: >/etc/motd

# Every connection comes from one address, the gateway's, so penalties against an
# address would lock everyone out. Older servers do not know the word.
mkdir -p /run/sshd /etc/boxgate
ssh-keygen -q -t ed25519 -N '' -f /etc/boxgate/ssh_host_ed25519_key
cp /etc/boxgate/ssh_host_ed25519_key.pub /etc/boxgate/user_ca.pub
if /usr/sbin/sshd -t -o 'PerSourcePenalties no' 2>/dev/null; then
    echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/11-boxgate-penalties.conf
fi
/usr/sbin/sshd -t
rm -f /etc/boxgate/*

# --- services -----------------------------------------------------------------------

systemctl set-default multi-user.target
systemctl enable boxgate-user.service ssh.service docker.socket boxgate-docker.timer \
    boxgate-cluster.service boxgate-settings.service boxgate-locale.service
systemctl --global enable boxgate-agent.socket boxgate-dotfiles.service
# The timer and the socket start them.
systemctl disable docker.service containerd.service

# Socket activation (Ubuntu) would spawn sshd only on the first connection and
# ignores MaxStartups.
systemctl disable ssh.socket 2>/dev/null || true

# Masked because a container cannot, or need not, do it: hardware, disks, consoles,
# clocks, kernel file systems, host keys of its own, periodic work of a server.
# Masking a unit that this distribution lacks does no harm.
systemctl mask \
    ssh.socket sshd-keygen.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-modules-load.service \
    systemd-hwdb-update.service systemd-oomd.service systemd-oomd.socket \
    systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    systemd-resolved.service systemd-timesyncd.service systemd-pstore.service \
    systemd-remount-fs.service systemd-random-seed.service systemd-binfmt.service \
    systemd-firstboot.service systemd-machine-id-commit.service systemd-update-utmp.service \
    getty.target console-getty.service getty@.service serial-getty@.service \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount tmp.mount \
    apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer \
    modprobe@.service systemd-update-utmp-runlevel.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer motd-news.timer >/dev/null 2>&1
# sshd on other sockets than ours (newer systemd offers itself to the host).
mkdir -p /etc/systemd/system-generators
ln -sf /dev/null /etc/systemd/system-generators/systemd-ssh-generator

# The user's systemd runs these before it is ready, and the first login waits for it: one
# starts desktops' programs, the other asks gpg-agent whether it also keeps SSH keys.
mkdir -p /etc/systemd/user-generators /etc/systemd/user-environment-generators
ln -sf /dev/null /etc/systemd/user-generators/systemd-xdg-autostart-generator
ln -sf /dev/null /etc/systemd/user-environment-generators/90gpg-agent

rm -rf /tmp/setup
