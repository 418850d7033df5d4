/**
 * Writes src/config/partitions.ts from AWS's own list, which its SDK for JavaScript carries. The SDK's module of it takes
 * 14 MB of memory and a tenth of a second to load, for nine lines.
 *
 * Usage: npm run partitions
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Partition } from '../src/config/partitions.ts';

/** As the SDK has it. */
interface AwsPartition {
  readonly id: string;
  readonly regionRegex: string;
  readonly outputs: { readonly dnsSuffix: string; readonly dualStackDnsSuffix: string };
  readonly regions: Readonly<Record<string, unknown>>;
}

/** The SDK's list, from where its package keeps it. */
export async function awsPartitions(): Promise<readonly AwsPartition[]> {
  const list = '../dist-es/submodules/client/util-endpoints/lib/aws/partitions.js';
  const { partitionsInfo } = await import(new URL(list, import.meta.resolve('@aws-sdk/core')).href);
  return partitionsInfo.partitions;
}

/** What we take of the SDK's list. */
export const partitionsOf = (list: readonly AwsPartition[]): Partition[] =>
  list.map(({ id, regionRegex, outputs: { dnsSuffix, dualStackDnsSuffix }, regions: named }) => {
    const regions = new RegExp(regionRegex.replaceAll('\\-', '-'));
    const others = Object.keys(named).filter((region) => !regions.test(region));
    return { name: id, regions, others, dnsSuffix, dualStackDnsSuffix };
  });

/** The text of src/config/partitions.ts, before the formatter. */
function moduleOf(partitions: readonly Partition[]): string {
  const rows = partitions.map(({ name, regions, others, dnsSuffix, dualStackDnsSuffix }) => {
    return `{ name: '${name}', regions: ${regions}, others: ${JSON.stringify(others)}, dnsSuffix: '${dnsSuffix}', dualStackDnsSuffix: '${dualStackDnsSuffix}' },`;
  });
  return `/** AWS's partitions. Made by \`npm run partitions\` from the list in AWS's SDK; a test fails when it is stale. */

export interface Partition {
  /** As ARNs have it. */
  readonly name: string;
  readonly regions: RegExp;
  /** Names that stand for no single region. */
  readonly others: readonly string[];
  /** What the names of its endpoints end in. */
  readonly dnsSuffix: string;
  readonly dualStackDnsSuffix: string;
}

export const PARTITIONS: readonly Partition[] = [
${rows.join('\n')}
];
`;
}

if (import.meta.main) {
  const file = fileURLToPath(new URL('../src/config/partitions.ts', import.meta.url));
  writeFileSync(file, moduleOf(partitionsOf(await awsPartitions())));
  execFileSync('biome', ['check', '--write', file], { stdio: 'inherit' });
}
