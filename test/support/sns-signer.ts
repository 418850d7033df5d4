/** Signs like SNS, with the tests' own certificate authority. */
import { execFile } from 'node:child_process';
import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/** The issuer's URL in the leaf certificates. */
export const ISSUER = 'http://crt.r2m01.amazontrust.com/r2m01.cer';

export interface Authority {
  readonly root: string;
  readonly issuer: string;
  readonly issuerDer: Buffer;
  readonly leaf: string;
  readonly key: KeyObject;
  /** A certificate for SNS's name signed by the leaf, which is invalid. */
  readonly forged: string;
  readonly forgedKey: KeyObject;
}

/** Creates root → issuer → leaf with openssl. */
export async function makeAuthority(folder: string, subject: string): Promise<Authority> {
  const openssl = (...args: string[]) => promisify(execFile)('openssl', args, { cwd: folder });
  const config = `[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n[leaf]\nbasicConstraints=CA:FALSE\nauthorityInfoAccess=caIssuers;URI:${ISSUER}\n`;
  await writeFile(path.join(folder, 'conf'), config);
  const made = async (name: string, cn: string, extensions: string, issuer: string) => {
    await openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${cn}`,
      '-config',
      'conf',
    );
    const signer =
      issuer === name
        ? ['-signkey', `${name}.key`]
        : ['-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`, '-CAcreateserial'];
    await openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      ...signer,
      '-extfile',
      'conf',
      '-extensions',
      extensions,
      '-days',
      '30',
      '-out',
      `${name}.pem`,
    );
    return readFile(path.join(folder, `${name}.pem`), 'utf8');
  };
  const root = await made('root', 'Root', 'ca', 'root');
  const issuer = await made('issuer', 'Issuer', 'ca', 'root');
  const leaf = await made('leaf', subject, 'leaf', 'issuer');
  await openssl('x509', '-in', 'issuer.pem', '-outform', 'DER', '-out', 'issuer.der');
  const forged = await made('forged', 'sns.amazonaws.com', 'leaf', 'leaf');
  const [issuerDer, key, forgedKey] = await Promise.all(
    ['issuer.der', 'leaf.key', 'forged.key'].map((file) => readFile(path.join(folder, file))),
  );
  return {
    root,
    issuer,
    issuerDer: issuerDer as Buffer,
    leaf,
    key: createPrivateKey(key as Buffer),
    forged,
    forgedKey: createPrivateKey(forgedKey as Buffer),
  };
}

const SIGNED = {
  Notification: ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'],
  SubscriptionConfirmation: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
  UnsubscribeConfirmation: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
};

/** Signs an envelope according to its SignatureVersion. */
export function signatureOf(envelope: Readonly<Record<string, string>>, key: KeyObject): string {
  const names = SIGNED[envelope.Type as keyof typeof SIGNED] ?? [];
  const text = names.flatMap((name) => (envelope[name] === undefined ? [] : [`${name}\n${envelope[name]}\n`])).join('');
  return sign(envelope.SignatureVersion === '1' ? 'sha1' : 'sha256', Buffer.from(text), key).toString('base64');
}
