/**
 * Cleans up after this process if it dies without a chance to do so itself, as by SIGKILL or without memory: a shell
 * reads a pipe from it, and when the pipe closes, it kills the children that are left and deletes the folder.
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';

const SCRIPT = `
pids=' '
folder=
while read -r what value; do
  case $what in
  start) pids="$pids$value " ;;
  end) case $pids in *" $value "*) pids="\${pids%% $value *} \${pids#* $value }" ;; esac ;;
  folder) folder=$value ;;
  esac
done
for pid in $pids; do kill -9 "$pid"; done
[ -z "$folder" ] && exit
# A killed process may still be writing.
for _ in 1 2 3 4 5; do rm -rf -- "$folder" && exit; sleep 1; done
`;

let pipe: Socket | undefined;

/** Starts the shell in its own session, so that a Ctrl-C or a closing terminal does not reach it. */
function start(): Socket {
  const env = { PATH: process.env.PATH };
  const shell = spawn('sh', ['-c', SCRIPT], { detached: true, env, stdio: ['pipe', 'ignore', 'ignore'] });
  const stdin = shell.stdin as Socket;
  const forget = () => {
    pipe = undefined;
  };
  // Without a shell, this process still cleans up at its own exit.
  shell.on('error', forget);
  stdin.on('error', forget);
  shell.unref();
  stdin.unref();
  return stdin;
}

function report(what: 'start' | 'end' | 'folder', value: string): void {
  pipe ??= start();
  pipe.write(`${what} ${value}\n`);
}

/** Kills this child when this process dies, until `guardEnded`. */
export const guardStarted = (pid: number): void => report('start', String(pid));

export const guardEnded = (pid: number): void => report('end', String(pid));

/** Deletes this folder when this process dies. */
export const guardFolder = (folder: string): void => report('folder', folder);
