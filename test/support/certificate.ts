/** A certificate that nobody signed, as a private endpoint has it. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/** Makes cert.pem and key.pem in a folder. @param name whose it is, such as `DNS:localhost` or `IP:127.0.0.1` */
export async function makeCertificate(folder: string, name: string): Promise<{ cert: Buffer; key: Buffer }> {
  const subject = ['-subj', '/CN=test', '-addext', `subjectAltName=${name}`, '-days', '2', '-nodes'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', 'key.pem', '-out', 'cert.pem'];
  await promisify(execFile)('openssl', ['req', '-x509', ...key, ...subject], { cwd: folder }).catch((error: Error) => {
    throw new Error(`this test needs openssl: ${error.message}`);
  });
  const [cert, its] = await Promise.all(['cert.pem', 'key.pem'].map((file) => readFile(path.join(folder, file))));
  return { cert: cert as Buffer, key: its as Buffer };
}
