/**
 * The page, with the first figures embedded if the client may see them: over a slow line, this saves two round trips.
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

/** The data embedded in the page. */
interface Snapshot {
  readonly login: boolean;
  readonly hello: { readonly version: string; readonly samples: readonly Sample[]; readonly state: State };
}

/** The figures are a mean of this many samples. */
const FEW = 5;
/** The page's placeholder for the data. */
const PLACE = '>null</script>';

export function servePage(server: FastifyInstance, { flow, state, access }: PageSetup): void {
  const html = readPage();
  const take = (request: FastifyRequest): Snapshot | undefined => {
    if (!access.allows(request) || !isDirect(request)) return undefined;
    try {
      return { login: access.login, hello: { version, samples: lastOf(flow.samples()), state: state() } };
    } catch {
      return undefined; // The page must open anyway: it asks again and shows the error.
    }
  };
  server.get('/', { config: { open: true } }, async (request, reply) => {
    const json = JSON.stringify(take(request) ?? null).replaceAll('<', '\\u003c');
    return reply.type('text/html; charset=utf-8').send(html.replace(PLACE, () => `>${json}</script>`));
  });
}

/** Whether a person opened the page, rather than another site's page (https://www.w3.org/TR/fetch-metadata/). */
function isDirect({ headers }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'];
  return site === undefined || site === 'none' || site === 'same-origin';
}

/** The last few samples, preceded by the last one with a latency. */
function lastOf(samples: readonly Sample[]): Sample[] {
  const few = samples.slice(-FEW);
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  return timed === undefined || few.includes(timed) ? few : [timed, ...few];
}
