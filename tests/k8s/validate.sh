#!/usr/bin/env bash
# Whether config/k8s, as kustomize renders it, is what the API server of each of these releases takes: strictly, so that a
# field it does not know is an error. Needs kubectl (or kustomize) and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
venv=$target/kubernetes-validate
if ! cmp -s tests/k8s/requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/k8s/requirements.txt
    cp tests/k8s/requirements.txt "$venv/"
fi
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
if kubectl version --client >/dev/null 2>&1; then
    kubectl kustomize config/k8s >"$rendered"
else
    kustomize build config/k8s >"$rendered"
fi
# 1.31 is the oldest that has everything the manifests use, preStop's sleep included, without asking for it.
for release in 1.31 1.33 1.35 1.37; do
    "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$release.0" "$rendered"
done
# The check itself can fail.
if sed 's/podManagementPolicy/podManagmentPolicy/' "$rendered" |
    "$venv/bin/kubernetes-validate" --strict --quiet /dev/stdin >/dev/null 2>&1; then
    echo "a misspelt field was not found" >&2
    exit 1
fi
