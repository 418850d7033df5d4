/** Sections that are not ours: MongooseIM's, which are ignored, and misspelt ones. */
import { distance } from 'fastest-levenshtein';

/** The names that one place of the file may have. */
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
  // MongooseIM's other modules are too many to list, and none has a similar name.
  modules: { ours: ['mod_event_pusher'], theirs: [] },
  mod_event_pusher: { ours: ['sns'], theirs: ['push', 'http', 'rabbit'] },
} as const satisfies Record<string, Place>;

/** The name of ours that an unknown name probably means; undefined if none is similar. */
export function misspelt(name: string, { ours, theirs }: Place): string | undefined {
  if (ours.includes(name) || theirs.includes(name)) return undefined;
  return ours.find((our) => isNear(name.toLowerCase(), our));
}

/** Similar: two letters differ (one in a short name), or something is added. */
const isNear = (name: string, our: string): boolean =>
  distance(name, our) <= (our.length <= 3 ? 1 : 2) || name.startsWith(our) || (name.length > 3 && our.startsWith(name));
