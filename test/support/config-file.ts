/** A configuration for tests that run a daemon in their own process and publish nothing. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { freePorts } from './process.ts';

/**
 * Writes `pusher.toml` into a folder, with free ports and an SNS that nobody reaches.
 * @param rest further sections
 */
export async function writeConfigFile(folder: string, rest: string): Promise<string> {
  const file = path.join(folder, 'pusher.toml');
  const [tap, admin] = await freePorts(2);
  const text = `
    [modules.mod_event_pusher.sns]
    sns_host = "http://127.0.0.1:9"
    region = "eu-west-1"
    access_key_id = "AKIAIOSFODNN7EXAMPLE"
    secret_access_key = "wJalrXUtnFEMI"
    account_id = "123456789012"
    [tap.http]
    listen = "127.0.0.1:${tap}"
    [admin]
    listen = "127.0.0.1:${admin}"
    ${rest}`;
  await writeFile(file, text);
  return file;
}
