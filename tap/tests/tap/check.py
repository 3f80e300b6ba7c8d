#!/usr/bin/env python3
"""Reads exported files with decoders that know nothing of this project.

Usage: check.py FOLDER SCHEMAS. FOLDER holds manifest.json and the files that it names; SCHEMAS is tap-schemas.

Each file is decoded by pycrate with its own modules of TAP 3.12 and RAP 1.5, and by asn1tools with the text of the
variant's modules. Both must find the same values, no item that they do not know, and no byte too many; encoded again,
both must give the same bytes. Then the rule table of the variant must hold, the values must be those of the records,
and file(1) must name the file. Exit 0: all holds; 1: the first thing that does not.
"""

import datetime
import json
import os
import subprocess
import sys
import tomllib
import urllib.parse

import asn1tools
from pycrate_asn1dir import TAP3

STATES = {"FAILED": 0, "EXPIRED": 1, "DELIVERED": 2}

# What the standard calls mandatory, whatever a variant's own rule table says.
CONTROL = ["sender", "recipient", "fileSequenceNumber", "fileAvailableTimeStamp", "transferCutOffTimeStamp",
           "specificationVersionNumber", "releaseVersionNumber"]
BATCH = [f"batchControlInfo.{name}" for name in CONTROL] + [
    "accountingInfo.localCurrency", "accountingInfo.tapDecimalPlaces", "networkInfo.utcTimeOffsetInfo",
    "callEventDetails", "auditControlInfo.totalCharge", "auditControlInfo.totalTaxValue",
    "auditControlInfo.totalDiscountValue", "auditControlInfo.callEventDetailsCount"]
CHARGE = ["chargedItem", "exchangeRateCode", "chargeDetailList[0].chargeType", "chargeDetailList[0].charge"]
CALL = ["basicCallInformation.chargeableSubscriber.simChargeableSubscriber.imsi",
        "basicCallInformation.callEventStartTimeStamp", "basicCallInformation.totalCallEventDuration",
        "locationInformation.networkLocation.recEntityCode"] + [
    f"basicServiceUsedList[0].chargeInformationList[0].{name}" for name in CHARGE]
USAGE = ["basicInformation.chargeableSubscriber", "recEntityCode", "scuChargeType.messageStatus",
         "scuTimeStamps.depositTimeStamp", "scuTimeStamps.completionTimeStamp"] + [
    f"chargeInformation.{name}" for name in CHARGE]


def check(holds, *what):
    if not holds:
        raise AssertionError(" ".join(str(part) for part in what))


class Schema:
    """Modules and mapping of one kind of file of a variant, compiled once."""

    def __init__(self, folder, kind):
        name = "tap" if kind == "TAP_3_12" else "rap"
        with open(os.path.join(folder, name + ".toml"), "rb") as mapping:
            self.mapping = tomllib.load(mapping)
        modules = [os.path.join(folder, module) for module in self.mapping["modules"]]
        self.root = self.mapping["root"]
        self.compiled = asn1tools.compile_files(modules, "ber")
        module = TAP3.TAP_0312 if name == "tap" else TAP3.RAP_0105
        self.standard = getattr(module, self.root)


def no_extensions(value, path="file"):
    """No decoder met an item that its module does not have."""
    if isinstance(value, dict):
        for name, inner in value.items():
            check(not name.startswith("_ext"), path, "has an unknown item:", name, inner)
            no_extensions(inner, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            check(not (isinstance(inner, str) and inner.startswith("_ext")), path, "has an unknown item:", value)
            no_extensions(inner, f"{path}[{at}]")


def decoded(schema, data):
    """The value of a file, as both decoders see it."""
    schema.standard.from_ber(data)
    value = schema.standard.get_val()
    no_extensions(value)
    check(schema.standard.to_ber() == data, "pycrate encodes it otherwise")
    other, length = schema.compiled.decode_with_length(schema.root, data)
    check(length == len(data), "asn1tools reads", length, "of", len(data), "bytes")
    check(schema.compiled.encode(schema.root, other) == data, "asn1tools encodes it otherwise")
    check(plain(value) == plain(other), "the decoders differ")
    return value


def plain(value):
    """Values of both decoders in one form."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return (value[0], plain(value[1]))
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return bytes(value) if isinstance(value, (bytes, bytearray)) else value


def item(value, path):
    """The item at a path of a rule table; None if it is not there."""
    for segment in path.split("."):
        name, _, index = segment.partition("[")
        if isinstance(value, tuple):
            value = value[1] if value[0] == name else None
        else:
            value = value.get(name)
        if value is None:
            return None
        if index:
            value = value[int(index[:-1])] if len(value) > int(index[:-1]) else None
            if value is None:
                return None
    return value


def rules(section, texts, value):
    """Every mandatory item of a section is there, and every mandatory text."""
    for path in section["mandatory"]:
        check(item(value, path) is not None, "mandatory item", path, "is missing in", value)
    for path, rule in section["items"].items():
        if "texts" in rule:
            there = tagged(item(value, path))
            for tag in texts[rule["texts"]]["mandatory"]:
                check(tag in there, "mandatory text", tag, "is missing in", there)


def standard(paths, value):
    """Every item that the standard calls mandatory is there."""
    for path in paths:
        check(item(value, path) is not None, "the standard's mandatory item", path, "is missing in", value)


def tagged(entries):
    """Texts of the form TAG=value as a dictionary."""
    pairs = [entry.decode("ascii").split("=", 1) for entry in entries]
    check(len(dict(pairs)) == len(pairs), "a tag is there twice:", pairs)
    return dict(pairs)


def digits(octets):
    """The digits of a BCDString."""
    text = octets.hex()
    return text[:-1] if text.endswith("f") else text


def instant(local, offset):
    """A local time CCYYMMDDhhmmss at an offset +hhmm, as RFC 3339 to the second."""
    at = datetime.datetime.strptime(local.decode() + offset.decode(), "%Y%m%d%H%M%S%z")
    return at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def quoted(text):
    """A text as the conversion `percent` writes it."""
    return "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x25 else f"%{b:02X}" for b in text.encode())


def call_section(mapping, name, value):
    """The rules for a call event: the first that fits its name, and its party in the case of the service centre."""
    found = [call for call in mapping["call"] if call["path"] == name]
    if len(found) > 1:
        status = item(value, "basicInformation.chargedPartyStatus")
        found = [call for call in found if call["items"]["basicInformation.chargedPartyStatus"]["value"] == status]
    check(len(found) == 1, "no rules for", name)
    return found[0]


def call_event(schema, event, expected, offsets):
    """A call event is that of its record."""
    name, value = event
    rules(call_section(schema.mapping, name, value), schema.mapping["texts"], value)
    standard(USAGE if name == "serviceCentreUsage" else CALL, value)
    texts = tagged(value["operatorSpecInformation"])
    is_number = expected["callingPartyAddress"].startswith("+")
    if expected["imsi"] is None:
        check(name == "serviceCentreUsage", expected, "became", name)
        detail = value["chargeInformation"]
        party = value["basicInformation"]
        pays = expected["billingIndicator"] in ("REVERSE_CHARGED", "MPP")
        check(party["chargedPartyStatus"] == int(pays), "charged party", party)
        subscriber = party["chargeableSubscriber"][1]
        charged, other = ("called", "calling") if pays else ("calling", "called")
        number = expected[charged + "PartyAddress"]
        check(digits(subscriber.get("msisdn", b"")) == (number[1:] if number.startswith("+") else ""), subscriber, number)
        check(party["nonChargedNumber"].decode() == quoted(expected[other + "PartyAddress"]), party)
        check(value["scuChargeType"]["messageStatus"] == STATES[expected["finalState"]], value["scuChargeType"])
        start = value["scuTimeStamps"]["completionTimeStamp"]
    else:
        kind = {"MO": "mobileOriginatedCall", "MT": "mobileTerminatedCall"}[expected["direction"]]
        check(name == kind, expected, "became", name)
        basic = value["basicCallInformation"]
        subscriber = basic["chargeableSubscriber"][1]
        check(digits(subscriber["imsi"]) == expected["imsi"], subscriber)
        check(basic["totalCallEventDuration"] == 0, basic)
        service = value["basicServiceUsedList"]
        check(len(service) == 1, service)
        code = service[0]["basicService"]["serviceCode"]
        check(code == ("teleServiceCode", b"22" if expected["direction"] == "MO" else b"21"), code)
        detail = service[0]["chargeInformationList"][0]
        centre = expected["serviceCenterAddress"].lstrip("+")
        if expected["direction"] == "MO":
            check(digits(basic["destination"]["calledNumber"]) == centre, basic)
            check(basic["destination"]["sMSDestinationNumber"].decode() == expected["calledPartyAddress"], basic)
            check(("msisdn" in subscriber) == is_number, subscriber)
        else:
            check(digits(basic["callOriginator"]["callingNumber"]) == centre, basic)
            check(basic["callOriginator"]["sMSOriginator"].decode() == quoted(expected["callingPartyAddress"]), basic)
            check(digits(subscriber["msisdn"]) == expected["calledPartyAddress"].lstrip("+"), subscriber)
        start = basic["callEventStartTimeStamp"]
    offset = offsets[start["utcTimeOffsetCode"]]
    check(instant(start["localTimeStamp"], offset) == expected["eventTimeStamp"][:19] + "Z", start, offset, expected)
    check(offset.decode() == expected["offset"], "offset", offset, expected)
    charges = detail["chargeDetailList"]
    check([charge["chargeType"] for charge in charges] == [b"00"], charges)
    check(charges[0]["charge"] == expected["charge"], charges, expected["charge"])
    check(texts["FS"] == expected["finalState"], texts)
    if schema.mapping["naming"]["live"].startswith("TAP_"):
        served = expected["callingPartyAddress" if expected["direction"] == "MO" else "calledPartyAddress"]
        original = expected["originalServedSubscriberId"] or served
        for tag, text in [
            ("RE", expected["recordingEntity"]),
            ("OS", original),
            ("CG", expected["callingPartyAddress"]),
            ("CD", expected["calledPartyAddress"]),
            ("SC", expected["serviceCenterAddress"]),
            ("MR", expected["messageReference"]),
        ]:
            check(texts[tag] == quoted(text), tag, texts, text)
            check(urllib.parse.unquote(texts[tag]) == text, tag, texts)
        if "ID" in schema.mapping["texts"]["record"]["mandatory"]:
            for tag, name in [("ID", "cdrId"), ("ET", "eventTimeStamp"), ("EN", "encoding"), ("CT", "chargeType"),
                              ("BI", "billingIndicator"), ("SG", "segmentCount")]:
                check(texts[tag] == str(expected[name]), tag, texts, expected)


def control(schema, header, expected):
    """Header values of a file."""
    check(header["sender"].decode() == expected["sender"], header)
    check(header["recipient"].decode() == expected["recipient"], header)
    name = "rapFileSequenceNumber" if schema.root == "RapDataInterChange" else "fileSequenceNumber"
    check(header[name].decode() == f"{expected['sequence']:05}", header)
    for name, value in header.items():
        if name.endswith("TimeStamp"):
            instant(value["localTimeStamp"], value["utcTimeOffset"])
    check((header["specificationVersionNumber"], header["releaseVersionNumber"]) == (3, 12), header)
    check((header.get("fileTypeIndicator") == b"T") == expected["test"], header)


def tap_file(schema, file, value):
    """A TAP file with its totals."""
    name, batch = value
    if not file["calls"]:
        check(name == "notification", name)
        rules(schema.mapping["empty"], schema.mapping["texts"], batch)
        standard(CONTROL, batch)
        control(schema, batch, file)
        return
    check(name == "transferBatch", name)
    rules(schema.mapping["batch"], schema.mapping["texts"], batch)
    standard(BATCH, batch)
    control(schema, batch["batchControlInfo"], file)
    offsets = {}
    for info in batch["networkInfo"]["utcTimeOffsetInfo"]:
        check(info["utcTimeOffsetCode"] not in offsets, "a code is there twice")
        offsets[info["utcTimeOffsetCode"]] = info["utcTimeOffset"]
    entities = {info["recEntityCode"] for info in batch["networkInfo"]["recEntityInfo"]}
    check(entities == {0}, entities)
    events = batch["callEventDetails"]
    check(len(events) == len(file["calls"]), len(events), "call events")
    for event, expected in zip(events, file["calls"]):
        call_event(schema, event, expected, offsets)
    check({expected["offset"].encode() for expected in file["calls"]} == set(offsets.values()), offsets)
    audit = batch["auditControlInfo"]
    check(audit["callEventDetailsCount"] == len(events), audit)
    check(audit["totalCharge"] == sum(expected["charge"] for expected in file["calls"]), audit)
    check(batch["accountingInfo"]["tapDecimalPlaces"] == 6, batch["accountingInfo"])
    times = [expected["eventTimeStamp"][:19] + "Z" for expected in file["calls"]]
    for name, time in [("earliestCallTimeStamp", min(times)), ("latestCallTimeStamp", max(times))]:
        check(instant(audit[name]["localTimeStamp"], audit[name]["utcTimeOffset"]) == time, audit, time)


def rap_file(schema, file, value, listed):
    """A RAP file: every adjustment returns the call event of the TAP file."""
    name, batch = value
    check(name == "returnBatch", name)
    rules(schema.mapping["batch"], schema.mapping["texts"], batch)
    control(schema, batch["rapBatchControlInfoRap"], file)
    details = batch["returnDetails"]
    check(len(details) == len(file["calls"]), len(details), "returns")
    total = 0
    for (name, detail), expected in zip(details, file["calls"]):
        check(name == "severeReturn", name)
        rules(schema.mapping["call"][0], schema.mapping["texts"], detail)
        check(detail["fileSequenceNumber"].decode() == f"{expected['tapSequence']:05}", detail)
        check(detail["callEventDetail"] == listed[expected["index"]], "not the call event of the TAP file", detail)
        codes = {"CORRECTION": 901, "VOID": 902, "RE_RATE": 903}
        check([error["errorCode"] for error in detail["errorDetail"]] == [codes[expected["type"]]], detail)
        texts = tagged(detail["operatorSpecList"])
        reasons = {"CORRECTION": "CORRECTED", "VOID": "VOIDED", "RE_RATE": "TARIFF_CHANGE"}
        check((texts["AD"], texts["RR"]) == (expected["adjustmentId"], reasons[expected["type"]]), texts)
        check(texts["MR"] == quoted(expected["messageReference"]), texts)
        check(texts["NC"] == expected["newCharge"], texts)
        if expected["type"] == "VOID":
            check(texts["NC"] == "0.000000" and texts["VC"] == expected["voidCode"], texts)
        total += expected["charge"]
    audit = batch["rapAuditControlInfo"]
    check(audit["totalSevereReturnValue"] == total, audit, total)
    check(audit["returnDetailsCount"] == len(details), audit)


def named(path, file):
    """What file(1) says."""
    said = subprocess.run(["file", "-b", path], check=True, capture_output=True, text=True).stdout.strip()
    if file["kind"] == "RAP_1_5":
        expected = "RAP 1.5 Batch (TD.32, Returned Account Procedure), TAP 3.12"
    elif file["calls"]:
        expected = "TAP 3.12 Batch (TD.57, Transferred Account)"
    else:
        expected = "TAP 3.12 Notification (TD.57, Transferred Account)"
    check(said == expected, "file(1) says:", said)


def main(folder, schemas):
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as manifest:
        files = json.load(manifest)["files"]
    compiled, listed, events = {}, {}, 0
    for file in files:
        path = os.path.join(folder, file["path"])
        with open(path, "rb") as content:
            data = content.read()
        key = (file["variant"], file["kind"])
        if key not in compiled:
            compiled[key] = Schema(os.path.join(schemas, file["variant"]), file["kind"])
        schema = compiled[key]
        try:
            value = decoded(schema, data)
            if file["kind"] == "TAP_3_12":
                tap_file(schema, file, value)
                listed[file["path"]] = value[1].get("callEventDetails")
            else:
                rap_file(schema, file, value, listed[file["returnsFrom"]])
            named(path, file)
        except Exception as error:
            raise AssertionError(f"{file['path']}: {error!r}") from error
        events += len(file["calls"])
    print(f"{len(files)} files with {events} call events hold")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
