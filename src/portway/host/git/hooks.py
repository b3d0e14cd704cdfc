"""The two git hooks of every repository, by which control decides what becomes of a push.

`pre-receive` hands the push to control, prints what control says, and lets the push pass when control has made it live.
It runs while git still keeps the objects of the push in quarantine. `proc-receive` takes the place of git's own move of
the branch, which control has made by then, together with the release.

Each push has two pipes of its own, whose descriptors git passes on: the hook writes to PORTWAY_ASKS

    the lines of the push, as git gives them: OLD NEW REF; of very many, the first
    NUL
    the environment of the hook, NUL after each variable
    NUL

and reads lines from PORTWAY_HEARS: those that begin with a space are printed, and `ok` lets the push pass. When control
has gone, the pipe ends without it.
"""

PRE_RECEIVE = """\
#!/bin/sh
# Written by Portway: asks its control process, which deploys the push or refuses it.
if [ -z "$PORTWAY_ASKS" ]; then
  echo 'push to the address of the app on its host, http://HOST/APP.git'
  exit 1
fi
{ head -c 65536; printf '\\000'; env -0; printf '\\000'; } >"/dev/fd/$PORTWAY_ASKS" || exit 1
while IFS= read -r line; do
  [ "$line" = ok ] && exit 0
  printf '%s\\n' "${line# }"
done <"/dev/fd/$PORTWAY_HEARS"
exit 1
"""

PROC_RECEIVE = """\
#!/bin/sh
# Written by Portway, which has moved the branch with the release: tells git so (gitprotocol-common, pkt-lines).
line="ok $(git symbolic-ref HEAD)"
printf '000eversion=1\\n0000%04x%s\\n0000' $((${#line} + 5)) "$line"
cat >/dev/null
"""

HOOKS = {"pre-receive": PRE_RECEIVE, "proc-receive": PROC_RECEIVE}
