import { InvalidArgumentError, Option } from 'commander';

/** `--config FILE`, which every command that touches a daemon has. */
export const configOption = (): Option =>
  new Option('-c, --config <file>', 'the configuration file').default('pusher.toml');

/** Reads an option's value as a whole number above zero. */
export function positiveNumber(text: string): number {
  if (!/^[1-9]\d{0,15}$/.test(text)) throw new InvalidArgumentError('It should be a whole number above zero.');
  return Number(text);
}
