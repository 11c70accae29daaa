#!/bin/sh
# Makes every language a name of C.UTF-8. Runs once, inside `docker build`, for whoever logs in with a locale that the box does not have.
#
# People's ssh sends the LANG and LC_* of their own machine. Where a box has no such locale, bash and perl warn and fall
# back to ASCII, at every command. glibc looks for LANGUAGE_COUNTRY.CODESET, and where there is none for a directory of
# LANGUAGE alone: here it finds one for each language that there is or might be, which is C.UTF-8. A locale that is
# compiled later, by locale-gen or localedef, is found first. macOS sends the bare name UTF-8.
set -eu
cd /usr/lib/locale
letters='a b c d e f g h i j k l m n o p q r s t u v w x y z'
for first in $letters; do
    for second in $letters; do
        echo "$first$second"
    done
done | cat - /usr/share/i18n/SUPPORTED | sed -n 's/^\([a-z]\{2,3\}\)\([_. @].*\)\{0,1\}$/\1/p' | sort -u | while read -r language; do
    [ -e "$language" ] || ln -s C.utf8 "$language"
done
[ -e UTF-8 ] || ln -s C.utf8 UTF-8
