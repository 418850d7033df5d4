/** ejabberd's own command, for this program and for commands to paste. */
import { globSync } from 'node:fs';
import { shellWord } from '../../../quote.ts';
import { onPath } from '../files.ts';

const NAME = 'ejabberdctl';
/** Where upstream's packages and installers have it, beside which there may be older releases. */
const INSTALLED = `/opt/ejabberd*/bin/${NAME}`;

/**
 * The command: by its path where it isn't on the PATH.
 * @returns undefined if this machine doesn't have it
 */
export function findControl(installed = INSTALLED): string | undefined {
  return onPath(NAME) ? NAME : globSync(installed).toSorted().at(-1);
}

/** A command line of it to paste. */
export const controlLine = (words: string, installed = INSTALLED): string =>
  `${shellWord(findControl(installed) ?? NAME)} ${words}`;
