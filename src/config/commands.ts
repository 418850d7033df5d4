/** Commands for people to copy, which work unchanged wherever they are pasted on this machine. */
import path from 'node:path';
import { shellWord } from '../quote.ts';
import { namedEnvFile } from './env-file.ts';
import { findConfig, SYSTEM_CONFIG } from './find.ts';

/**
 * A complete command line.
 * @param words the command and its arguments
 * @param configFile the configuration, which is named unless the command finds it by itself
 * @param foreign an argument that others chose, such as a source's name, which must not become an option
 */
export function commandTo(words: readonly string[], configFile?: string, foreign?: string): string {
  const isOptionLike = foreign?.startsWith('-') === true;
  const envFile = namedEnvFile();
  const isFound = configFile === undefined || (configFile === SYSTEM_CONFIG && findConfig(undefined) === SYSTEM_CONFIG);
  return [
    'xmpp-event-pusher',
    ...words,
    ...(foreign === undefined || isOptionLike ? [] : [foreign]),
    ...(isFound ? [] : ['--config', path.resolve(configFile)]),
    ...(envFile === undefined || configFile === undefined ? [] : ['--env-file', path.resolve(envFile)]),
    ...(isOptionLike ? ['--', foreign] : []),
  ]
    .map(shellWord)
    .join(' ');
}

/** The same within a sentence. */
export const quotedCommand = (words: readonly string[], configFile?: string, foreign?: string): string =>
  `\`${commandTo(words, configFile, foreign)}\``;

/** What starts the daemon with a configuration: the service with the one that its unit names. */
export const startCommand = (configFile: string): string =>
  configFile === SYSTEM_CONFIG ? 'systemctl start xmpp-event-pusher' : commandTo(['run'], configFile);
