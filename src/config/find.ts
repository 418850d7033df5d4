/** Finds the configuration if no option names it. */
import { lstatSync, statSync } from 'node:fs';
import path from 'node:path';

/** The variable that names the configuration, for commands without `--config`. */
export const CONFIG_VARIABLE = 'XMPP_EVENT_PUSHER_CONFIG';
/** Its path in packages and the systemd unit. */
export const SYSTEM_CONFIG = '/etc/xmpp-event-pusher/pusher.toml';

/** Its name in the working directory. */
export const LOCAL_CONFIG = 'pusher.toml';

/** Tried in this order; the first that exists is used. */
const PLACES = [LOCAL_CONFIG, SYSTEM_CONFIG];

/**
 * The configuration file: the named one, else the variable's, else the first in its usual places. A named file need not
 * exist; reading it reports that.
 * @param places for tests
 * @returns undefined if none is named and none exists
 */
export function findConfig(
  named: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  places: readonly string[] = PLACES,
): string | undefined {
  return named ?? (environment[CONFIG_VARIABLE] || undefined) ?? places.find(isThere);
}

/**
 * One in a named folder that this user may not look at is there, too: reading it says what is wrong. The working directory
 * may be any, such as /root after `sudo -u`.
 */
function isThere(file: string): boolean {
  try {
    statSync(file);
    return true;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return !/^(ENOENT|ENOTDIR)$/.test(code) && (path.isAbsolute(file) || code !== 'EACCES');
  }
}

/**
 * Whether a file in the working directory belongs to another user, who could make this process load any plugin: root may
 * be in anybody's folder. Root's files are fine, and those of the user who called sudo.
 */
export function isForeign(
  file: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): boolean {
  const trusted = [0, process.geteuid?.(), ...(environment.SUDO_UID ? [Number(environment.SUDO_UID)] : [])];
  try {
    return [statSync(file), lstatSync(file)].some(({ uid }) => !trusted.includes(uid));
  } catch {
    return false; // Reading it reports why.
  }
}
