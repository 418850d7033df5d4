/**
 * Delays the answers to wrong secrets, by address. The right secret is always answered at once, because many clients
 * may share an address (a proxy, a NAT). The secret's length protects against guessing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { networkOf } from './network.ts';

export interface Brake {
  /** Reports a wrong secret from an address; resolves when it may be answered. */
  failed(address: string): Promise<void>;
}

/** Wrong secrets that an address may send within a minute before delays start. */
const FREE = 10;
const WINDOW_MS = 60_000;
const SLOW_MS = 1_000;
/** Maximum number of delayed answers; further ones are sent at once, because waiting costs memory. */
const MOST_WAITING = 100;
/** Most addresses remembered. */
const MOST_ADDRESSES = 10_000;

interface BrakeSetup {
  readonly now?: () => number;
  /** Length of a delay. */
  readonly pause?: () => Promise<unknown>;
}

export function createBrake({ now = Date.now, pause = () => sleep(SLOW_MS) }: BrakeSetup = {}): Brake {
  const counts = new Map<string, { count: number; until: number }>();
  let waiting = 0;
  return {
    async failed(address) {
      const network = networkOf(address);
      const known = counts.get(network);
      const found = known && known.until > now() ? known : { count: 0, until: now() + WINDOW_MS };
      found.count += 1;
      // Deleted first, so that the map stays sorted by age.
      if (found !== known) counts.delete(network);
      counts.set(network, found);
      if (counts.size > MOST_ADDRESSES) counts.delete(counts.keys().next().value as string);
      if (found.count <= FREE || waiting >= MOST_WAITING) return;
      waiting += 1;
      await pause();
      waiting -= 1;
    },
  };
}
