/**
 * Resolves imports of this package by name, as in the examples, to the sources, because `dist/` only exists after a
 * build. Import this first, and such modules with `await import()`.
 */
import { registerHooks } from 'node:module';

const SOURCES: Readonly<Record<string, string>> = {
  'xmpp-event-pusher': new URL('../../src/index.ts', import.meta.url).href,
  'xmpp-event-pusher/consumer': new URL('../../src/consumer/index.ts', import.meta.url).href,
};

registerHooks({
  resolve: (specifier, context, next) => {
    const url = SOURCES[specifier];
    return url === undefined ? next(specifier, context) : { url, shortCircuit: true };
  },
});
