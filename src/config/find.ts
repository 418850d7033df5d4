/** Where the configuration is when nobody names it. */
import { statSync } from 'node:fs';

/** Names the configuration, for commands without `--config`. */
export const CONFIG_VARIABLE = 'XMPP_EVENT_PUSHER_CONFIG';
/** Where a package and the systemd unit have it. */
export const SYSTEM_CONFIG = '/etc/xmpp-event-pusher/pusher.toml';

/** In this order, the first that exists. */
const PLACES = ['pusher.toml', SYSTEM_CONFIG];

/**
 * The configuration file: the one that is named, else by the variable, else in its usual places. What is named need not
 * exist, so that reading it says so.
 * @param places for tests
 * @returns undefined when none is named and there is none
 */
export function findConfig(
  named: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  places: readonly string[] = PLACES,
): string | undefined {
  return named ?? (environment[CONFIG_VARIABLE] || undefined) ?? places.find(isThere);
}

/** One that this user may not look at is there, too: reading it says what is wrong. */
function isThere(file: string): boolean {
  try {
    statSync(file);
    return true;
  } catch (error) {
    return !/^(ENOENT|ENOTDIR)$/.test((error as NodeJS.ErrnoException).code ?? '');
  }
}
