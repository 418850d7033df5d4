/** A server and its tap, which suites share: a server takes seconds to start. */
import { after, before } from 'node:test';
import { type Collector, startCollector } from './collector.ts';
import type { XmppServer } from './server.ts';

export interface Rig<Server extends XmppServer> {
  readonly server: Server;
  readonly tap: Collector;
}

/** Starts both before the suites of a `describe`, and stops them afterwards. They are there once its tests run. */
export function useRig<Server extends XmppServer>(start: (tap: Collector) => Promise<Server>): Rig<Server> {
  const stack = new AsyncDisposableStack();
  const rig: { server?: Server; tap?: Collector } = {};
  before(async () => {
    rig.tap = stack.use(await startCollector());
    rig.server = stack.use(await start(rig.tap));
  });
  after(() => stack.disposeAsync());
  return {
    get server() {
      return rig.server!;
    },
    get tap() {
      return rig.tap!;
    },
  };
}
