/** What the parts need of a log. A pino logger is one; a host program may bring its own. */
export interface Log {
  /** @param fields what the line is about, by name; no message texts and no secrets */
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Writes nothing: for host programs that want no log. */
export const SILENT: Log = { info() {}, warn() {}, error() {} };
