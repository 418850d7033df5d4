/** Sections of a file that are not ours: MongooseIM's, which are left alone, and those that somebody misspelt. */
import { distance } from 'fastest-levenshtein';

/** The names that may stand in one place of the file. */
export interface Place {
  readonly ours: readonly string[];
  /** MongooseIM's (https://esl.github.io/MongooseDocs/latest/configuration/configuration-files/). */
  readonly theirs: readonly string[];
}

const OVERRIDABLE = ['general', 'auth', 'outgoing_pools', 'acl', 'access', 's2s'];

export const SECTION_NAMES = {
  file: {
    ours: ['modules', 'tap', 'outbox', 'admin', 'log', 'host_config'],
    theirs: [...OVERRIDABLE, 'listen', 'internal_databases', 'services', 'shaper', 'instrumentation'],
  },
  hostConfig: { ours: ['host', 'host_type', 'modules'], theirs: OVERRIDABLE },
  // Its other modules are too many to list, and have names that are not near this one.
  modules: { ours: ['mod_event_pusher'], theirs: [] },
  mod_event_pusher: { ours: ['sns'], theirs: ['push', 'http', 'rabbit'] },
} as const satisfies Record<string, Place>;

/** Which of our names a name that is neither ours nor MongooseIM's was probably meant to be; undefined: none. */
export function misspelt(name: string, { ours, theirs }: Place): string | undefined {
  if (ours.includes(name) || theirs.includes(name)) return undefined;
  return ours.find((our) => isNear(name.toLowerCase(), our));
}

/** Two letters off, of a short name one, or with something added to it. */
const isNear = (name: string, our: string): boolean =>
  distance(name, our) <= (our.length <= 3 ? 1 : 2) || name.startsWith(our) || (name.length > 3 && our.startsWith(name));
