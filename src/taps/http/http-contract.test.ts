import { tapContract } from '../contract.ts';
import type { Receipt } from '../tap.ts';
import { httpTap } from './http.ts';

const SECRET = 'a secret of the contract';

tapContract('The HTTP tap', async () => {
  const tap = httpTap({ listen: { host: '127.0.0.1', port: 0 }, secret: SECRET });
  let url: string | undefined;
  return {
    tap,
    async hand({ first, ...batch }) {
      url = tap.url ?? url;
      if (!url) return undefined;
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json' },
        body: JSON.stringify({ ...batch, first_seq: first }),
      });
      const body = await response.json();
      return response.ok ? (body as Receipt) : undefined;
    },
    dispose: async () => undefined,
  };
});
