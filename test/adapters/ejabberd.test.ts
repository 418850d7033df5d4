import { startEjabberd } from '../support/ejabberd.ts';
import { adapterContract } from './contract.ts';

adapterContract('ejabberd', startEjabberd);
