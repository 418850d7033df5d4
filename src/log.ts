/** The log's interface. A pino logger has it; a host program may bring its own. */
export interface Log {
  /** @param fields the line's data by name; no message texts and no secrets */
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A log that writes nothing. */
export const SILENT: Log = { info() {}, warn() {}, error() {} };
