/**
 * The page, with the first figures in it where whoever opens it may see them: over a slow line they would come two round
 * trips later otherwise.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { version } from '../version.ts';
import type { Access } from './access.ts';
import { readPage } from './assets.ts';
import type { Flow, Sample } from './flow.ts';
import type { State } from './state.ts';

interface PageSetup {
  readonly flow: Pick<Flow, 'samples'>;
  readonly state: () => State;
  readonly access: Access;
}

/** What the page begins with. */
interface Snapshot {
  readonly login: boolean;
  readonly hello: { readonly version: string; readonly samples: readonly Sample[]; readonly state: State };
}

/** Of so many samples the figures are a mean. */
const FEW = 5;
/** Where the page has a place for it. */
const PLACE = '>null</script>';

export function servePage(server: FastifyInstance, { flow, state, access }: PageSetup): void {
  const html = readPage();
  const take = (request: FastifyRequest): Snapshot | undefined => {
    if (!access.allows(request) || !isDirect(request)) return undefined;
    try {
      return { login: access.login, hello: { version, samples: lastOf(flow.samples()), state: state() } };
    } catch {
      return undefined; // The page has to open all the same: it asks again, and says what is wrong.
    }
  };
  server.get('/', { config: { open: true } }, async (request, reply) => {
    const json = JSON.stringify(take(request) ?? null).replaceAll('<', '\\u003c');
    return reply.type('text/html; charset=utf-8').send(html.replace(PLACE, () => `>${json}</script>`));
  });
}

/** Whether a person opened the page, and no other site's page had it loaded (https://www.w3.org/TR/fetch-metadata/). */
function isDirect({ headers }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'];
  return site === undefined || site === 'none' || site === 'same-origin';
}

/** The last few samples, and before them the last one that has a time from event to SNS. */
function lastOf(samples: readonly Sample[]): Sample[] {
  const few = samples.slice(-FEW);
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  return timed === undefined || few.includes(timed) ? few : [timed, ...few];
}
