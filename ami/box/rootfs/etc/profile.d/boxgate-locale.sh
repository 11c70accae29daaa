# shellcheck shell=sh
# The box's own locale, for whoever's ssh sends none.
if [ -z "${LANG:-}" ] && [ -r /etc/default/locale ]; then
    # shellcheck source=/dev/null
    . /etc/default/locale
    export LANG
fi
