import { tapContract } from './contract.ts';
import { inProcessTap } from './in-process.ts';

tapContract('The in-process tap', async () => {
  const tap = inProcessTap();
  return {
    tap,
    hand: ({ epoch, first, ...batch }) =>
      tap.receive({ ...batch, numbering: epoch !== undefined && first !== undefined ? { epoch, first } : undefined }),
    dispose: async () => undefined,
  };
});
