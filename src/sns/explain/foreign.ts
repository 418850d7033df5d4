/** What an answer means that is not one of SNS's. */
import type { Circumstances, Failure, Meaning } from '../failure.ts';

export const NOT_SNS_ADVICE = 'check sns_host with its port and path, and what stands between here and SNS';

export function explainForeign(
  { status }: Extract<Failure, { kind: 'foreign' }>,
  { endpoint }: Circumstances,
): Meaning {
  if (status === 407)
    return {
      means: 'a proxy wants a login',
      advice: 'let this machine reach SNS without it, or through a VPC endpoint',
    };
  if (status >= 300 && status < 400)
    return { means: 'a redirect, which SNS never sends: a portal or a load balancer does', advice: NOT_SNS_ADVICE };
  if (status === 502 || status === 503 || status === 504)
    return {
      means: `what stands before ${endpoint.host} can't reach it, or is overloaded`,
      advice: 'wait: it is tried again by itself; check the proxy or load balancer on the way if it lasts',
    };
  if (status === 200)
    return {
      means: 'that is no answer of SNS, or one that was cut short: a proxy, a portal or another server answers',
      advice: NOT_SNS_ADVICE,
    };
  return { means: 'that is not how SNS answers: a proxy, a portal or another server does', advice: NOT_SNS_ADVICE };
}
