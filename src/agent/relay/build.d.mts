export function buildRelay(target?: string): Promise<void>;
