import { type Command, InvalidArgumentError, Option } from 'commander';
import { CONFIG_VARIABLE, SYSTEM_CONFIG } from '../config/find.ts';

/** Adds `--config FILE` and `--env-file FILE`, for every command that needs a configuration. */
export const configurable = (command: Command): Command =>
  command
    .addOption(
      new Option(
        '-c, --config <file>',
        `the configuration file (default: $${CONFIG_VARIABLE}, ./pusher.toml or ${SYSTEM_CONFIG})`,
      ),
    )
    .addOption(
      new Option(
        '--env-file <file>',
        'file with variables that it refers to, as NAME=value (default: `environment` beside it)',
      ),
    );

/** Reads a value as a whole number above zero. */
export function positiveNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('It should be a whole number above zero.');
  if (text.length > 15) throw new InvalidArgumentError('It is too large.');
  return Number(text);
}
