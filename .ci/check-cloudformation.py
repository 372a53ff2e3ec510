"""Compares deploy/cloudformation.yaml with the rest of deploy/: `make check-deploy` runs it.

It evaluates the template for every combination of its choices, as CloudFormation does, and compares the policies, who
gets which, the bucket and the printed configuration with deploy/iam-*.json and docs/.
"""

import itertools
import json
import pathlib
import re
import sys
import tomllib

import cfnlint.decode

ROOT = pathlib.Path(__file__).parent.parent
POLICIES = {
    "iam-producer": "ProducerPolicy",
    "iam-ingester": "IngesterPolicy",
    "iam-redshift-login": "RedshiftLoginPolicy",
    "iam-copy-role": "CopyPolicy",
    "iam-operator": "OperatorPolicy",
    "iam-replay": "ReplayPolicy",
    "iam-forget": "ForgetPolicy",
    "iam-kms": "KmsPolicy",
    "iam-kms-copy-role": "KmsCopyPolicy",
}
# The trust of CopyRole; what belongs to an identity that the template does not have; what its bucket does not need, as its
# owner owns every object.
NO_POLICIES = {"iam-copy-role-trust", "iam-assume-role", "iam-acl"}
LOGIN_SIDS = {
    "iam": "IamGetClusterCredentialsForTheOneUserAndDatabase",
    "iam-identity": "IamIdentityGetClusterCredentialsWithIAM",
    "serverless": "ServerlessGetCredentials",
}

KEY = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
WORKGROUP_ID = "00000000-0000-0000-0000-000000000000"
TRUSTED = ["arn:aws:iam::123456789012:user/livestream"]
NETWORK = {"ServerlessVpcId": "vpc-1", "ServerlessSubnetIds": "subnet-1,subnet-2", "ServerlessClientCidr": "10.0.0.0/16"}
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
}
# The names that deploy/*.json has, which with the defaults are those of the template; and other ones.
EXAMPLE = {"BucketName": "example-livestream", "RedshiftCluster": "example"}
OTHER = {
    "BucketName": "other-bucket",
    "ToIngestPrefix": "a/b/",
    "IngestedPrefix": "a/c/",
    "LoadsPrefix": "d/",
    "RejectedPrefix": "e/",
    "QuarantinePrefix": "f/",
    "ReplayPrefix": "g/",
    "RedshiftCluster": "other-cluster",
    "RedshiftDatabase": "other_database",
    "RedshiftUser": "other_user",
}


class Stack:
    """The template with values for its parameters. A resource's Ref is its logical id, an attribute `Id.Attribute`."""

    NO_VALUE = object()

    def __init__(self, template, given):
        self.template = template
        parameters = template["Parameters"]
        assert given.keys() <= parameters.keys(), f"no such parameter: {given.keys() - parameters.keys()}"
        self.values = {name: given.get(name, declared.get("Default")) for name, declared in parameters.items()}
        for name, declared in parameters.items():
            value = self.values[name]
            if declared["Type"] == "CommaDelimitedList" and isinstance(value, str):
                self.values[name] = value.split(",")
            pattern = declared.get("AllowedPattern", ".*")
            assert declared["Type"] != "String" or re.fullmatch(pattern, value), f"{name}: {value!r} is not allowed"

    def there(self, kind):
        """What of a section exists with these parameters."""
        items = self.template[kind].items()
        return {name: item for name, item in items if "Condition" not in item or self.condition(item["Condition"])}

    def condition(self, name):
        return self.value(self.template["Conditions"][name])

    def refused(self):
        """The complaints of the rules."""
        for rule in self.template["Rules"].values():
            if self.value(rule["RuleCondition"]):
                for assertion in rule["Assertions"]:
                    if not self.value(assertion["Assert"]):
                        yield assertion["AssertDescription"]

    def value(self, node):
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not self.NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(name, argument)] = node.items()
            function = self.FUNCTIONS.get(name)
            # A policy statement has a Condition, too.
            if function and (name != "Condition" or isinstance(argument, str)):
                return function(self, argument)
            assert not name.startswith("Fn::"), f"{name} is not known here"
        items = {key: self.value(item) for key, item in node.items()}
        return {key: item for key, item in items.items() if item is not self.NO_VALUE}

    def ref(self, name):
        if name == "AWS::NoValue":
            return self.NO_VALUE
        if name in self.template["Resources"]:
            assert name in self.there("Resources"), f"{name} is used where it does not exist"
            return name
        return PSEUDO[name] if name in PSEUDO else self.values[name]

    def get_att(self, path):
        resource, attribute = path if isinstance(path, list) else path.split(".", 1)
        return f"{self.ref(resource)}.{attribute}"

    def sub(self, argument):
        text, own = argument if isinstance(argument, list) else (argument, {})

        def one(match):
            name = match.group(1)
            if name in own:
                return self.value(own[name])
            return self.get_att(name) if "." in name else str(self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)

    def join(self, argument):
        delimiter, parts = argument
        return delimiter.join(self.value(parts))

    FUNCTIONS = {
        "Ref": ref,
        "Fn::GetAtt": get_att,
        "Fn::Sub": sub,
        "Fn::Join": join,
        "Fn::Split": lambda self, argument: self.value(argument[1]).split(argument[0]),
        "Fn::If": lambda self, argument: self.value(argument[1 if self.condition(argument[0]) else 2]),
        "Fn::Equals": lambda self, argument: len({str(self.value(side)) for side in argument}) == 1,
        "Fn::Not": lambda self, argument: not self.value(argument[0]),
        "Fn::And": lambda self, argument: all([self.value(side) for side in argument]),
        "Fn::Or": lambda self, argument: any([self.value(side) for side in argument]),
        "Condition": condition,
    }


def choices():
    """Every combination of what a user can choose, as parameters."""
    every = itertools.product(
        (EXAMPLE, OTHER), ("one", "two"), ("", KEY), ("password", *LOGIN_SIDS), ([""], TRUSTED), ("", "example"), ("", "new")
    )
    for names, machines, key, auth, trusted, external_id, serverless in every:
        if serverless and auth.startswith("iam"):
            continue
        yield {
            **names,
            **(NETWORK if serverless else {}),
            "Machines": machines,
            "KmsKeyArn": key,
            "RedshiftAuth": auth,
            "RedshiftWorkgroupId": WORKGROUP_ID,
            "TrustedArns": trusted,
            "ExternalId": external_id,
            "ServerlessName": serverless,
            "IngestedExpireDays": 90 if key else 0,
            "IngestedColdDays": 30 if key else 0,
            "RejectedExpireDays": 30 if key else 0,
        }


def of_file(stem, stack):
    """A policy of deploy/ with the names of a stack in place of its examples."""
    text = (ROOT / f"deploy/{stem}.json").read_text()
    values = stack.values
    for example, name in [
        ("s3:::example-livestream", f"s3:::{values['BucketName']}"),
        (":example/", f":{values['RedshiftCluster']}/"),
        ("/analytics", f"/{values['RedshiftDatabase']}"),
        ("/livestream_loader", f"/{values['RedshiftUser']}"),
    ]:
        text = text.replace(example, name)
    # Every prefix has the parameter of its name.
    text = re.sub(r"(?<=/)(\w+)/(?=[*.])", lambda match: values[f"{match.group(1)}Prefix"], text)
    policy = json.loads(text)
    if stem == "iam-redshift-login":
        sid = LOGIN_SIDS.get(values["RedshiftAuth"])
        policy["Statement"] = [statement for statement in policy["Statement"] if statement["Sid"] == sid]
        if sid == LOGIN_SIDS["serverless"] and values["ServerlessName"]:
            policy["Statement"][0]["Resource"] = "Workgroup.Workgroup.WorkgroupArn"
    return policy


def trust(stack):
    """Who may assume the roles of the services."""
    given, external_id = stack.values["TrustedArns"] != [""], stack.values["ExternalId"]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": TRUSTED} if given else {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    if given and external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return {"Version": "2012-10-17", "Statement": [statement]}


def expected(stack):
    """The policies that exist, and each role's trust and policies."""
    login = ["RedshiftLoginPolicy"] if stack.values["RedshiftAuth"] != "password" else []
    kms = ["KmsPolicy"] if stack.values["KmsKeyArn"] else []
    kms_copy = ["KmsCopyPolicy"] if kms else []
    producer, ingester = ["ProducerPolicy"], ["IngesterPolicy", *login]
    if stack.values["Machines"] == "one":
        services = {"ServicesRole": producer + ingester + kms}
    else:
        services = {"ProducerRole": producer + kms, "IngesterRole": ingester + kms}
    roles = {name: (trust(stack), policies) for name, policies in services.items()}
    roles["CopyRole"] = (of_file("iam-copy-role-trust", stack), ["CopyPolicy", *kms_copy])
    without = {"RedshiftLoginPolicy", "KmsPolicy", "KmsCopyPolicy"} - {*login, *kms, *kms_copy}
    policies = {name: of_file(stem, stack) for stem, name in POLICIES.items() if name not in without}
    return policies, roles


def complaints(stack):
    resources = {name: (item["Type"], stack.value(item["Properties"])) for name, item in stack.there("Resources").items()}
    policies = {name: properties for name, (kind, properties) in resources.items() if kind == "AWS::IAM::ManagedPolicy"}
    roles = {name: properties for name, (kind, properties) in resources.items() if kind == "AWS::IAM::Role"}
    expected_policies, expected_roles = expected(stack)
    if policies.keys() != expected_policies.keys():
        yield f"policies: {sorted(policies)}, not {sorted(expected_policies)}"
    if roles.keys() != expected_roles.keys():
        yield f"roles: {sorted(roles)}, not {sorted(expected_roles)}"
    files = {name: stem for stem, name in POLICIES.items()}
    for name in sorted(policies.keys() & expected_policies.keys()):
        document, file = policies[name]["PolicyDocument"], expected_policies[name]
        if document != file:
            yield f"{name} is not deploy/{files[name]}.json: {difference(document, file)}"
        if policies[name].keys() - {"Description", "PolicyDocument"}:
            yield f"{name} has more than a document: {sorted(policies[name])}"
    for name in sorted(roles.keys() & expected_roles.keys()):
        who, attached = expected_roles[name]
        if roles[name]["AssumeRolePolicyDocument"] != who:
            yield f"{name} is assumed by others: {difference(roles[name]['AssumeRolePolicyDocument'], who)}"
        if sorted(roles[name]["ManagedPolicyArns"]) != sorted(attached):
            yield f"{name} has the policies {roles[name]['ManagedPolicyArns']}, not {attached}"
        if roles[name].keys() - {"Description", "AssumeRolePolicyDocument", "ManagedPolicyArns"}:
            yield f"{name} has more than managed policies: {sorted(roles[name])}"
    inline = {"AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::UserPolicy", "AWS::IAM::GroupPolicy"}
    yield from (f"{name} is a {kind}" for name, (kind, _) in resources.items() if kind in inline)
    yield from bucket(resources["BucketPolicy"][1], resources["Bucket"][1], stack.values["KmsKeyArn"])
    yield from lifecycle(resources["Bucket"][1], stack)
    yield from configuration(stack)


def difference(ours, file):
    """The statements that the two do not share."""
    ours, file = ours.get("Statement", []), file["Statement"]
    only = lambda these, others: json.dumps([one for one in these if one not in others])
    return f"the template has {only(ours, file)}, the file {only(file, ours)}"


def bucket(policy, properties, key):
    """Private, by TLS only, encrypted, and owner of its objects."""
    only_by_tls = {
        "Sid": "OnlyByTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["Bucket.Arn", "Bucket.Arn/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    if policy["PolicyDocument"] != {"Version": "2012-10-17", "Statement": [only_by_tls]}:
        yield f"BucketPolicy does more or less than refuse requests without TLS: {policy['PolicyDocument']}"
    if list(properties["PublicAccessBlockConfiguration"].values()) != [True] * 4:
        yield "Bucket does not block all public access"
    if properties["OwnershipControls"] != {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}:
        yield "Bucket does not own its objects"
    [encryption] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    algorithm = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {"SSEAlgorithm": "AES256"}
    if encryption["ServerSideEncryptionByDefault"] != algorithm:
        yield f"Bucket is encrypted by {encryption['ServerSideEncryptionByDefault']}, not {algorithm}"


def lifecycle(properties, stack):
    """Batches that are not loaded, and rows that the ledger counts, must not go by themselves."""
    for rule in properties["LifecycleConfiguration"]["Rules"]:
        goes = {"ExpirationInDays", "ExpirationDate", "Transition", "Transitions"} & rule.keys()
        prefix = rule.get("Prefix", "")
        for kept in ("ToIngestPrefix", "QuarantinePrefix"):
            place = stack.values[kept]
            if goes and (place.startswith(prefix) or prefix.startswith(place)):
                yield f"the lifecycle rule {rule['Id']} takes objects from {kept}"


def configuration(stack):
    """The output is TOML, and every key of it is one of the configuration."""
    outputs = {name: stack.value(output["Value"]) for name, output in stack.there("Outputs").items()}
    known = set(re.findall(r"^\| `(\w+\.\w+)` \|", (ROOT / "docs/CONFIGURATION.md").read_text(), re.MULTILINE))
    sections = tomllib.loads(outputs["Configuration"])
    for section, keys in sections.items():
        yield from (f"docs/CONFIGURATION.md has no {section}.{key}" for key in keys if f"{section}.{key}" not in known)
    for key in ("to_ingest", "ingested", "loads", "rejected", "quarantine"):
        parameter = "".join(word.title() for word in key.split("_")) + "Prefix"
        if sections["s3"].get(key) != stack.values[parameter]:
            yield f"the output Configuration has not {parameter} as s3.{key}"


def not_refused(template):
    """Parameters that the rules must refuse and do not."""
    for given in (
        {"RedshiftAuth": "iam"},
        {"RedshiftAuth": "iam-identity"},
        {"RedshiftAuth": "serverless"},
        {"RedshiftAuth": "iam", "RedshiftCluster": "example", "ServerlessName": "example", **NETWORK},
        *({"ServerlessName": "example", **{name: NETWORK[name] for name in NETWORK if name != left}} for left in NETWORK),
    ):
        if not list(Stack(template, {"BucketName": "example", **given}).refused()):
            yield f"no rule refuses {given}"


def main():
    template, faults = cfnlint.decode.decode(str(ROOT / "deploy/cloudformation.yaml"))
    if faults:
        sys.exit("\n".join(map(str, faults)))
    found = dict.fromkeys(not_refused(template))
    files = {path.stem for path in (ROOT / "deploy").glob("iam-*.json")}
    for stem in sorted(files ^ (POLICIES.keys() | NO_POLICIES)):
        found[f"deploy/{stem}.json: .ci/check-cloudformation.py and deploy/ do not both have it"] = None
    count = 0
    for given in choices():
        stack = Stack(template, given)
        found.update(dict.fromkeys((*stack.refused(), *complaints(stack))))
        count += 1
    if found:
        sys.exit("deploy/cloudformation.yaml differs from deploy/iam-*.json or docs/:\n" + "\n".join(found))
    print(f"deploy/cloudformation.yaml: {count} combinations agree with deploy/iam-*.json")


main()
