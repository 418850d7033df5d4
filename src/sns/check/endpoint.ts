/** Findings about an endpoint and this machine's clock that do not make requests fail. Pure. */
import { isAwsHost, regionOfSnsHost, snsHostOf } from '../../config/regions.ts';
import { CLOCK_ADVICE, skewText } from '../explain/identity.ts';
import type { Circumstances } from '../failure.ts';
import { type Diagnosis, fail, warn } from './diagnosis.ts';

/** Mistakes in the endpoint that are visible in the configuration. */
export function endpointProblem({ endpoint, region }: Circumstances): Diagnosis | undefined {
  const { hostname, protocol } = endpoint;
  const ofHost = regionOfSnsHost(hostname);
  if (ofHost !== undefined && ofHost !== region)
    return fail(
      `sns_host is ${hostname}, region is ${region}`,
      `that is the host of ${ofHost}, which refuses signatures for ${region} and has no topics of it`,
      `set region = "${ofHost}", or sns_host = "${snsHostOf(region)}", whichever the topics are in`,
    );
  const isAws = isAwsHost(hostname);
  if (isAws && ofHost === undefined)
    return fail(
      `sns_host is ${hostname}`,
      'that is a host of AWS, but not of SNS',
      `set sns_host = "${snsHostOf(region)}"`,
    );
  if (isAws && protocol === 'http:')
    return warn(
      `sns_host is ${endpoint.origin}`,
      'messages travel unencrypted: anybody on the network can read them',
      `set sns_host = "${hostname}", which is https`,
    );
  return undefined;
}

/** A smaller difference may come from the Date header's whole seconds and a slow answer. */
const NOTABLE_SKEW_MS = 30_000;
/** From this difference on AWS refuses signatures, and the daemon corrects their time. */
const REFUSED_SKEW_MS = 5 * 60_000;

/**
 * A clock that differs from SNS's, while SNS still accepts our signatures.
 * @param skewMs how far this clock is ahead
 */
export function clockProblem(skewMs: number | undefined): Diagnosis | undefined {
  if (skewMs === undefined || Math.abs(skewMs) < NOTABLE_SKEW_MS) return undefined;
  const corrected = Math.abs(skewMs) >= REFUSED_SKEW_MS;
  return warn(
    `this machine's clock is ${skewText(skewMs)}`,
    corrected
      ? "requests are signed with SNS's time instead, and the latency metrics are wrong by the difference"
      : 'AWS refuses signatures more than 5 minutes away from its own time, and the latency metrics are wrong by the difference',
    CLOCK_ADVICE,
  );
}
