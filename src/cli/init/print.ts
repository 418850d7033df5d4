/** The output of `init`. */
import { printableLines } from '../../format.js';

/** One line or several. */
export const print = (text: string): void => void process.stdout.write(`${printableLines(text)}\n`);
