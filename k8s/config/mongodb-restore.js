// Reads what mongodb-backup.js wrote from stdin, and inserts the contacts that are not there. What is there stays as it is, so this
// may be done again, and while contacts come in. docs/backup.md.

const { readFileSync, readSync } = require("fs");

const BATCH = 500;
const DUPLICATE_KEY = 11000;

const password = encodeURIComponent(readFileSync(`${process.env.PASSWORDS}/admin`, "utf8").trim());
const contacts = new Mongo(`mongodb://admin:${password}@${process.env.MEMBERS}/?replicaSet=rs0`)
  .getDB(process.env.DATABASE)
  .getCollection("contacts");

let [restored, already] = [0, 0];

// Nothing is said of a contact but where it stands.
function insert(batch) {
  if (batch.length === 0) return;
  try {
    contacts.insertMany(batch, { ordered: false, writeConcern: { w: "majority" } });
    restored += batch.length;
  } catch (error) {
    const errors = [error.writeErrors ?? []].flat();
    const others = errors.filter((it) => it.code !== DUPLICATE_KEY);
    if (errors.length === 0 || others.length > 0) {
      throw new Error(`not restored: error ${others[0]?.code ?? error.code ?? error.name}`);
    }
    already += errors.length;
    restored += batch.length - errors.length;
  }
}

function parse(line, number) {
  try {
    return EJSON.parse(line, { relaxed: false });
  } catch (error) {
    throw new Error(`line ${number} is not Extended JSON`);
  }
}

const chunk = Buffer.alloc(65536);

// How many bytes came; 0 at the end. mongosh has made stdin one that does not wait.
function read() {
  for (;;) {
    try {
      return readSync(0, chunk);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      sleep(20);
    }
  }
}

let rest = Buffer.alloc(0);
let batch = [];
let lines = 0;
let expected = -1;
for (let length = read(); length > 0; length = read()) {
  rest = Buffer.concat([rest, chunk.subarray(0, length)]);
  for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
    lines++;
    if (expected >= 0) throw new Error(`line ${lines} comes after the end`);
    const contact = parse(rest.subarray(0, end).toString("utf8"), lines);
    rest = rest.subarray(end + 1);
    if (contact._id === undefined) {
      expected = Number(contact.contacts);
    } else {
      batch.push(contact);
    }
    if (batch.length === BATCH) {
      insert(batch);
      batch = [];
    }
  }
}
insert(batch);
if (rest.length > 0 || expected !== lines - 1) {
  throw new Error(`this is not a whole backup: its last line has to be the number of those before, which are ${lines - (expected >= 0)}`);
}
print(`restored ${restored} contacts; ${already} were there already`);
