/** The whole contract. Its suites share a server, in an order that suits what each leaves behind. */
import { describe } from 'node:test';
import { useRig } from '../support/rig.ts';
import type { ServerOptions, XmppServer } from '../support/server.ts';
import { endsContract, fullQueueContract, sessionsContract } from './contract.ts';
import { answersContract, certificatesContract } from './contract-answers.ts';
import { messagesContract } from './contract-messages.ts';
import { type Own, runsContract } from './contract-runs.ts';

/** @param start starts a server that has block lists */
export function adapterContract<Server extends XmppServer>(
  name: string,
  start: (options: ServerOptions) => Promise<Server>,
  own: Own<Server>,
): void {
  // At the same time: the suites wait for most of their time.
  describe(`${name}: the contract`, { concurrency: true }, () => {
    describe('on one server', { concurrency: false }, () => {
      const rig = useRig((tap) => start({ url: tap.url, resumeSeconds: 3, answerSeconds: 3, slowRetrySeconds: 0.2 }));
      sessionsContract(rig);
      endsContract(rig);
      runsContract(rig, own);
      answersContract(rig);
      messagesContract(rig);
    });
    fullQueueContract(start);
    certificatesContract(start);
  });
}
