/** Exit codes. From 128 on they follow the shells: 128 plus the number of the signal that ended the command. */
export const EXIT = {
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The user pressed Ctrl-C at a question. */
  interrupted: 130,
  /** EX_CONFIG of sysexits.h: a mistake in the configuration, so a restart won't help. */
  configuration: 78,
} as const;
