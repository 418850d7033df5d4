import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { it } from 'node:test';
import { makeCertificate } from '../test/support/certificate.ts';
import { readAuthorities } from './authorities.ts';

it('accepts as certificate authorities only files with a certificate', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'authorities-'));
  const { cert } = await makeCertificate(folder, 'DNS:localhost');
  assert.equal(readAuthorities(path.join(folder, 'cert.pem'), 'ca_file'), cert.toString());
  await writeFile(path.join(folder, 'empty.pem'), '');
  for (const [name, message] of [
    ['missing.pem', /^ca_file: can't read .*ENOENT/],
    ['empty.pem', /^ca_file: .*empty\.pem has no certificate in PEM/],
    ['key.pem', /^ca_file: .*key\.pem has no certificate in PEM/],
  ] as const)
    assert.throws(() => readAuthorities(path.join(folder, name), 'ca_file'), { code: 'CONFIG_INVALID', message });
  await rm(folder, { recursive: true });
});
