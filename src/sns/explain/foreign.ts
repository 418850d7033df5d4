/** Explains an answer that didn't come from SNS. */
import type { Circumstances, Failure, Meaning } from '../failure.ts';

export const NOT_SNS_ADVICE = 'check sns_host with its port and path, and every proxy between here and SNS';

const HIDDEN_PROXY: Meaning = {
  means: 'a proxy that is not configured is between here and SNS, and requires a login',
  advice: 'set proxy to that one, with user and password, or let this machine reach SNS without it',
};

/** The proxy requires a login, or refuses ours. */
export const loginWanted = ({ source }: { readonly source: string }): Meaning => ({
  means: 'the proxy requires a login, or refuses user and password',
  advice: `put the right user and password into ${source}: http://user:password@host:port, percent-encoded`,
});

export function explainForeign(
  { status }: Extract<Failure, { kind: 'foreign' }>,
  { endpoint, proxy }: Circumstances,
): Meaning {
  if (status === 407) return proxy ? loginWanted(proxy) : HIDDEN_PROXY;
  if (status >= 300 && status < 400)
    return { means: 'a redirect, which SNS never sends: a portal or a load balancer does', advice: NOT_SNS_ADVICE };
  if (status === 502 || status === 503 || status === 504)
    return {
      means: `the proxy or load balancer before ${endpoint.host} can't reach it, or is overloaded`,
      advice: 'wait: the daemon retries; check the proxy or load balancer on the way if it lasts',
    };
  if (status === 200)
    return {
      means: 'this answer is not from SNS, or was cut short: a proxy, a portal or another server may have sent it',
      advice: NOT_SNS_ADVICE,
    };
  return { means: 'this answer is not from SNS, but from a proxy, a portal or another server', advice: NOT_SNS_ADVICE };
}
