/** How a command ends. Codes from 128 on are those of shells: 128 and the number of the signal that ended it. */
export const EXIT = {
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** Somebody ended it at a question, with Ctrl-C. */
  interrupted: 130,
  /** EX_CONFIG of sysexits.h: a mistake in the configuration, which another start would meet again. */
  configuration: 78,
} as const;
