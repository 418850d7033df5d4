/** AWS's partitions. Made by `npm run partitions` from the list in AWS's SDK; a test fails when it is stale. */

export interface Partition {
  /** As in ARNs. */
  readonly name: string;
  readonly regions: RegExp;
  /** Pseudo-regions, which stand for no single region. */
  readonly others: readonly string[];
  /** Suffix of the endpoints' names. */
  readonly dnsSuffix: string;
  readonly dualStackDnsSuffix: string;
}

export const PARTITIONS: readonly Partition[] = [
  {
    name: 'aws',
    regions: /^(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+$/,
    others: ['aws-global'],
    dnsSuffix: 'amazonaws.com',
    dualStackDnsSuffix: 'api.aws',
  },
  {
    name: 'aws-cn',
    regions: /^cn-\w+-\d+$/,
    others: ['aws-cn-global'],
    dnsSuffix: 'amazonaws.com.cn',
    dualStackDnsSuffix: 'api.amazonwebservices.com.cn',
  },
  {
    name: 'aws-eusc',
    regions: /^eusc-(de)-\w+-\d+$/,
    others: [],
    dnsSuffix: 'amazonaws.eu',
    dualStackDnsSuffix: 'api.amazonwebservices.eu',
  },
  {
    name: 'aws-iso',
    regions: /^us-iso-\w+-\d+$/,
    others: ['aws-iso-global'],
    dnsSuffix: 'c2s.ic.gov',
    dualStackDnsSuffix: 'api.aws.ic.gov',
  },
  {
    name: 'aws-iso-b',
    regions: /^us-isob-\w+-\d+$/,
    others: ['aws-iso-b-global'],
    dnsSuffix: 'sc2s.sgov.gov',
    dualStackDnsSuffix: 'api.aws.scloud',
  },
  {
    name: 'aws-iso-e',
    regions: /^eu-isoe-\w+-\d+$/,
    others: ['aws-iso-e-global'],
    dnsSuffix: 'cloud.adc-e.uk',
    dualStackDnsSuffix: 'api.cloud-aws.adc-e.uk',
  },
  {
    name: 'aws-iso-f',
    regions: /^us-isof-\w+-\d+$/,
    others: ['aws-iso-f-global'],
    dnsSuffix: 'csp.hci.ic.gov',
    dualStackDnsSuffix: 'api.aws.hci.ic.gov',
  },
  {
    name: 'aws-us-gov',
    regions: /^us-gov-\w+-\d+$/,
    others: ['aws-us-gov-global'],
    dnsSuffix: 'amazonaws.com',
    dualStackDnsSuffix: 'api.aws',
  },
];
