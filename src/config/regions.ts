/** Derives an AWS region's partition and endpoints from its name. */
import { PARTITIONS, type Partition } from './partitions.ts';

/** The partition of a region; `aws` for a name that this release doesn't know. */
export function partitionOf(region: string): Partition {
  const found =
    PARTITIONS.find(({ others }) => others.includes(region)) ?? PARTITIONS.find(({ regions }) => regions.test(region));
  return found ?? (PARTITIONS.find(({ name }) => name === 'aws') as Partition);
}

/** The host of AWS's own SNS endpoint in a region. */
export const snsHostOf = (region: string): string => `sns.${region}.${partitionOf(region).dnsSuffix}`;

/**
 * The labels of a host before the suffix of AWS's endpoints, such as `sns.eu-west-1`; undefined for a host that is not
 * AWS's. https://docs.aws.amazon.com/general/latest/gr/sns.html
 */
function awsLabels(host: string): string | undefined {
  const suffixes = PARTITIONS.flatMap(({ dnsSuffix, dualStackDnsSuffix }) => [dnsSuffix, dualStackDnsSuffix]);
  // The longest first, because one suffix may be the end of another.
  const suffix = suffixes.toSorted((a, b) => b.length - a.length).find((suffix) => host.endsWith(`.${suffix}`));
  return suffix === undefined ? undefined : host.slice(0, -suffix.length - 1);
}

/** Whether a host is one of AWS's. */
export const isAwsHost = (host: string): boolean => awsLabels(host) !== undefined;

/**
 * The region in the name of one of AWS's own SNS endpoints (standard, FIPS, dual-stack, VPC); undefined for other
 * hosts.
 */
export const regionOfSnsHost = (host: string): string | undefined =>
  /(?:^|\.)sns(?:-fips)?\.([a-z]+(?:-[a-z]+)+-\d+)(?:\.vpce)?$/.exec(awsLabels(host) ?? '')?.[1];

/** The region of a host that is only a region before AWS's suffix, such as `eu-west-1.amazonaws.com`. */
export const bareRegionOf = (host: string): string | undefined =>
  /^[a-z]+(?:-[a-z]+)+-\d+$/.exec(awsLabels(host) ?? '')?.[0];
