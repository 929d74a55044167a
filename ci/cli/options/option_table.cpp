// One row an option. Adding an option is one member of Options and one row here; help, the
// environment, suggestions and docs/reference/cli.md follow.

#include <array>

#include "ci/cli/options/options.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kAll = "*";
// What opens a model, what chooses a layout, and what ends in verdicts.
constexpr std::string_view kNames =  // of Megatron
    "check roundtrip convert trace layout diff rules:lint lora:check lora:convert";
constexpr std::string_view kLayout =
    "check roundtrip convert trace layout diff lora:check lora:convert";
constexpr std::string_view kVerdicts = "check roundtrip convert diff fuzz mutate lora";
constexpr std::string_view kSelect = "check roundtrip";

using O = Options;

// name, letter, aliases, form, member, value, group, commands, help, remedy, fallback, not_built,
// listed
constexpr std::array kOptions = {
    OptionSpec{"model", 'm', "", Form::Text, &O::model, "REF", "common",
               "check roundtrip convert trace layout inspect certify rules:lint rules:show "
               "lora:check lora:convert lora:merge lora:slice lora:unpack",
               "directory, file, fixture:FAMILY or ORG/NAME of the local HF cache",
               "write --model DIR"},
    OptionSpec{"help", 'h', "", Form::Flag, &O::help, "", "common", kAll,
               "this text, or that of a command", ""},
    OptionSpec{"version", 'V', "", Form::Flag, &O::version, "", "common", kAll,
               "version, build and schemas", ""},
    OptionSpec{"revision", 0, "hf-revision", Form::Text, &O::revision, "REV", "model",
               "check roundtrip convert trace layout inspect rules:lint lora:check lora:convert "
               "lora:merge lora:slice lora:unpack",
               "branch, tag or commit in the HF cache", ""},
    OptionSpec{"rules", 0, "", Form::Text, &O::rules, "FILE", "model",
               "check roundtrip convert trace layout diff rules:lint",
               "rules of your own bridge; default: a family chosen by architecture", ""},
    OptionSpec{"family", 0, "", Form::Text, &O::family, "NAME", "model",
               "check roundtrip convert trace layout diff rules:lint rules:show fixture:make "
               "lora:check lora:convert lora:merge lora:slice lora:unpack",
               "a built-in family by name (bridge-verify models list)", ""},
    OptionSpec{"families", 0, "", Form::Repeat, &O::families, "DIR", "model",
               "check roundtrip convert trace layout diff rules:show rules:lint models lora:check "
               "lora:convert lora:merge lora:slice lora:unpack",
               "family files beside the built-in ones; repeatable", "write --families DIR"},
    OptionSpec{"headers", 0, "", Form::Text, &O::headers, "FILE", "model",
               "check trace layout inspect rules:lint", "a headers dump in place of weights", ""},
    OptionSpec{
        "megatron", 0, "", Form::Text, &O::megatron, "CKPT_DIR", "model", "check",
        "a Megatron checkpoint (torch_dist, mp_rank files, shards) that must hold this model", ""},
    OptionSpec{"like", 0, "", Form::Text, &O::like, "HF_DIR", "model", "convert",
               "--to hf of a torch_dist checkpoint: the HF model whose names and files it gets",
               ""},
    OptionSpec{"set", 0, "", Form::Pair, &O::settings, "PATH=VALUE", "model",
               "check roundtrip convert trace layout diff rules:lint fixture:make lora:check "
               "lora:convert lora:merge lora:slice lora:unpack",
               "replaces a config field; repeatable",
               "write --set text_config.num_key_value_heads=8"},

    OptionSpec{"tp", 0, "tensor-model-parallel-size tensor-parallel-size", Form::Sizes, &O::tp,
               "LIST", "layout",
               "check roundtrip convert trace layout diff lora:check lora:convert lora:slice",
               "tensor parallelism: 1,2,4 or 1..8 (powers of two)",
               "write --tp 1 for no tensor parallelism"},
    OptionSpec{"pp", 0, "pipeline-model-parallel-size pipeline-parallel-size", Form::Sizes, &O::pp,
               "LIST", "layout", kLayout, "pipeline parallelism",
               "write --pp 1 for no pipeline parallelism"},
    OptionSpec{"ep", 0, "expert-model-parallel-size expert-parallel-size", Form::Sizes, &O::ep,
               "LIST", "layout", kLayout, "expert parallelism",
               "write --ep 1 for no expert parallelism"},
    OptionSpec{"etp", 0, "expert-tensor-parallel-size", Form::Sizes, &O::etp, "LIST", "layout",
               kLayout, "tensor parallelism of experts; default: equals --tp",
               "write --etp 1 for uncut experts"},
    OptionSpec{"vpp", 0,
               "num-virtual-stages-per-pipeline-rank virtual-pipeline-model-parallel-size",
               Form::Sizes, &O::vpp, "LIST", "layout", "check roundtrip convert trace layout",
               "virtual stages of each pipeline rank", "write --vpp 1 for no virtual stages"},
    OptionSpec{"cp", 0, "context-parallel-size", Form::Sizes, &O::cp, "LIST", "layout",
               "check roundtrip convert trace layout diff",
               "context parallelism; does not move weights",
               "write --cp 1 for no context parallelism"},
    OptionSpec{"decoder-first-pipeline-num-layers", 0, "num-layers-in-first-pipeline-stage",
               Form::Positive, &O::first_stage_layers, "N", "layout", kLayout,
               "layers of the first pipeline stage", ""},
    OptionSpec{"decoder-last-pipeline-num-layers", 0, "num-layers-in-last-pipeline-stage",
               Form::Positive, &O::last_stage_layers, "N", "layout", kLayout,
               "layers of the last pipeline stage", ""},
    OptionSpec{"pipeline-model-parallel-layout", 0, "", Form::Text, &O::pipeline_layout, "STR",
               "layout", kLayout, "stages as Megatron writes them: Et*3|(tt|)*29,m|L", ""},
    OptionSpec{"account-for-embedding-in-pipeline-split", 0, "", Form::Flag,
               &O::account_for_embedding, "", "layout", kLayout, "the embedding counts as a layer",
               ""},
    OptionSpec{"account-for-loss-in-pipeline-split", 0, "", Form::Flag, &O::account_for_loss, "",
               "layout", kLayout, "the loss counts as a layer", ""},
    OptionSpec{"make-vocab-size-divisible-by", 0, "", Form::Positive, &O::vocab_divisor, "N",
               "layout", kLayout, "pads the vocabulary to a multiple of N x TP", ""},
    OptionSpec{"world-size", 0, "", Form::Positive, &O::world_size, "N", "layout", "layout trace",
               "ranks of the world; default: the smallest", ""},
    OptionSpec{"layout", 0, "", Form::Repeat, &O::layout, "ID", "layout",
               "check roundtrip convert trace layout mutate lora:check lora:convert",
               "one layout by its id: tp2pp1ep8etp1; repeatable", ""},
    OptionSpec{"layouts", 0, "", Form::Text, &O::layouts, "auto|quick|all|FILE", "layout", kSelect,
               "which layouts when no size is given", "", "auto"},
    OptionSpec{"max-ranks", 0, "", Form::Positive, &O::max_ranks, "N", "layout", kSelect,
               "largest world of --layouts", "", "8"},
    OptionSpec{"transformer-impl", 0, "", Form::Choice, &O::transformer_impl,
               "transformer_engine|local", "layout",
               "check roundtrip convert trace layout diff rules:lint",
               "spelling of fused norm names", "", "transformer_engine"},
    OptionSpec{"moe-grouped-gemm", 0, "", Form::Flag, &O::grouped_experts, "", "layout", kNames,
               "grouped experts: linear_fc1.weight0 (default)", ""},
    OptionSpec{"no-moe-grouped-gemm", 0, "", Form::Flag, &O::sequential_experts, "", "layout",
               kNames, "sequential experts: local_experts.0.linear_fc1.weight", ""},

    OptionSpec{"level", 0, "", Form::Choice, &O::level, "headers|data|full", "selection", "check",
               "headers: names, shapes, proofs; data: every byte; full: both and more", "",
               "headers"},
    OptionSpec{"only", 0, "", Form::Names, &O::only, "CLAIM,..", "selection", kSelect,
               "these claims", ""},
    OptionSpec{"skip", 0, "", Form::Names, &O::skip, "CLAIM,..", "selection", kSelect,
               "not these claims; the run is then undecided", ""},
    OptionSpec{"match", 0, "", Form::Repeat, &O::match, "GLOB", "selection",
               "check roundtrip inspect", "these tensors; repeatable", ""},
    OptionSpec{"exclude", 0, "", Form::Repeat, &O::exclude, "GLOB", "selection",
               "check roundtrip convert diff rules:lint inspect",
               "not part of the model: left out there and back; repeatable", ""},
    OptionSpec{"allow-partial", 0, "", Form::Flag, &O::allow_partial, "", "gate",
               "check roundtrip convert diff", "a partial run may pass", ""},
    OptionSpec{"strict", 0, "", Form::Flag, &O::strict, "", "selection",
               "check roundtrip convert trace layout inspect diff rules:lint lora:check "
               "lora:convert lora:merge lora:unpack",
               "refuse what the format only tolerates", ""},
    OptionSpec{"drop-mtp", 0, "", Form::Flag, &O::drop_mtp, "", "selection", kNames,
               "leave the MTP layers out, on purpose", ""},
    OptionSpec{"expert-orientation", 0, "", Form::Choice, &O::expert_orientation, "out_in|in_out",
               "selection",
               "check roundtrip convert trace layout diff rules:lint lora:check lora:convert "
               "lora:merge lora:unpack",
               "how square expert stacks are stored", ""},
    OptionSpec{"from", 0, "", Form::Choice, &O::from, "hf|megatron", "selection", "trace",
               "the side that has the tensor, when both have one of that name", ""},
    OptionSpec{"as-rules", 0, "", Form::Flag, &O::as_rules, "", "selection", "rules:show",
               "the rules of a family as a rules file to start from", ""},
    OptionSpec{"tensor", 0, "", Form::Text, &O::tensor, "NAME", "selection", "layout",
               "the shards that hold this HF or Megatron tensor", ""},
    OptionSpec{"rank", 0, "", Form::Unsigned, &O::rank, "N", "selection", "layout",
               "what this rank holds: layers, experts, tensors and their sizes",
               "write --rank 0 for the first rank"},
    OptionSpec{
        "to", 0, "", Form::Choice, &O::to, "megatron|torch_dist|hf", "selection",
        "convert lora:convert",
        "the side to write: shards, a checkpoint of Megatron-Core (not of an adapter), or HF", ""},
    OptionSpec{"dtype", 0, "", Form::Choice, &O::dtype, "preserve|float32|bfloat16|float16",
               "selection", "check roundtrip convert diff layout",
               "casts on the way; a cast is a value-changing rule", "", "preserve"},
    OptionSpec{"adapter", 0, "", Form::Text, &O::adapter, "DIR", "model", "check convert lora",
               "a LoRA adapter of PEFT, or one with a file for each Megatron rank; convert merges "
               "one of PEFT first",
               "write --adapter DIR"},
    OptionSpec{"alpha", 0, "lora-alpha", Form::Positive, &O::alpha, "N", "model",
               "lora:check lora:convert",
               "the alpha of a Megatron adapter whose folder does not say it; scale alpha / rank",
               "write --alpha 32"},
    OptionSpec{"against", 0, "", Form::Text, &O::against, "DIR", "selection", "check lora:check",
               "another HF model that must hold the same; for lora check, the adapter that it was "
               "made from or to",
               "write --against DIR"},
    OptionSpec{"canonical", 0, "", Form::Flag, &O::canonical, "", "selection", "lora:convert",
               "--to megatron: one pair for each of q, k, v, gate and up", ""},
    OptionSpec{"merged", 0, "", Form::Text, &O::merged, "DIR", "model", "lora:check",
               "a merged checkpoint that is held against base and adapter", "write --merged DIR"},
    OptionSpec{"slices", 0, "", Form::Text, &O::slices, "DIR", "model", "lora:check",
               "a folder of lora slice that is held against the adapter", "write --slices DIR"},
    OptionSpec{"untie", 0, "", Form::Flag, &O::untie, "", "selection", "check convert lora:merge",
               "a tied tensor that the adapter changes becomes two", ""},
    OptionSpec{"fully-sharded", 0, "", Form::Flag, &O::fully_sharded, "", "selection", "lora:slice",
               "cut both factors, as a server with fully sharded adapters does", ""},
    OptionSpec{"max-rank", 0, "max-lora-rank", Form::Positive, &O::max_rank, "N", "selection",
               "lora:slice", "rows of the server's buffers; default: the largest rank",
               "write --max-rank 64"},
    OptionSpec{"fail-on", 0, "", Form::Choice, &O::fail_on, "refuted|inconclusive|warning", "gate",
               "check roundtrip convert diff rules:lint", "the mildest finding that fails the run",
               "", "inconclusive"},
    OptionSpec{"waivers", 0, "", Form::Text, &O::waivers, "FILE", "gate",
               "check roundtrip convert diff",
               "known faults with an issue and a last day (docs/reference/waivers.md)", ""},
    OptionSpec{"baseline", 0, "", Form::Text, &O::baseline, "FILE", "gate",
               "report:html report:json report:merge survey",
               "an earlier verdicts.json, or of survey its --json: what changed since", ""},
    OptionSpec{"fail-on-new", 0, "", Form::Flag, &O::fail_on_new, "", "gate", "report:diff",
               "exit 1 when something is newly refuted, no longer judged, lost or known by less",
               ""},
    OptionSpec{"exit-zero", 0, "", Form::Flag, &O::exit_zero, "", "gate",
               "check roundtrip convert diff fuzz lora:check lora:convert lora:merge lora:unpack",
               "report only: hides exit 1 and 3", ""},

    OptionSpec{
        "out",
        'o', "", Form::Text, &O::out, "DIR", "output",
        "check roundtrip convert fixture:make fuzz mutate diff report certify survey lora:convert "
        "lora:merge "
        "lora:slice lora:unpack",
        "folder for reports, or for the checkpoint that is written", ""},
    OptionSpec{
        "json", 0, "", Form::Flag, &O::json, "", "output",
        "check roundtrip convert diff fuzz mutate trace layout inspect models rules:lint fixture "
        "doctor lora survey "
        "version config",
        "JSON on stdout and nothing else", ""},
    OptionSpec{"format", 0, "", Form::Choice, &O::format, "text|plain|json|jsonl|github", "output",
               kVerdicts, "form of stdout", "", "text"},
    OptionSpec{"ci", 0, "", Form::Choice, &O::ci, "auto|github|none", "output", kVerdicts,
               "tells a CI service: the summary of the job, findings beside the lines; auto: where "
               "GITHUB_ACTIONS is set, and not to false, no, off or 0",
               "", "auto"},
    OptionSpec{"report", 0, "", Form::Repeat, &O::reports, "FORMAT[=FILE]", "output", kVerdicts,
               "writes one more form to FILE (left out: its usual name), or to stdout with -; "
               "repeatable",
               "write --report json=verdicts.json"},
    OptionSpec{"plain", 0, "", Form::Flag, &O::plain, "", "output", "inspect",
               "one tab-separated line a tensor", ""},
    OptionSpec{"dump-headers", 0, "", Form::Text, &O::dump_headers, "FILE", "output", "inspect",
               "writes config and headers without weights: FILE.headers.json[.gz]", ""},
    OptionSpec{"overwrite", 0, "", Form::Flag, &O::overwrite, "", "output",
               "convert fixture:make lora:convert lora:merge lora:slice lora:unpack",
               "replace what is there", ""},
    OptionSpec{"resume", 0, "", Form::Flag, &O::resume, "", "output", "convert lora:merge",
               "keep finished shards", ""},
    OptionSpec{
        "accept-changed", 0, "", Form::Flag, &O::accept_changed, "", "selection", "check convert",
        "the weights were trained since they were written: check --megatron compares shapes, "
        "types and copies alone",
        ""},
    OptionSpec{
        "quantised", 0, "quantized", Form::Choice, &O::quantised, "restore|plain", "selection",
        "convert",
        "--to hf of a quantised source: its stored tensors again, byte for byte or not at all; "
        "or the plain weights of the shards",
        "", "restore"},
    OptionSpec{"follow-links", 0, "", Form::Flag, &O::follow_links, "", "selection",
               "convert lora:merge", "carry files along that are links out of the folder", ""},
    OptionSpec{"no-verify", 0, "", Form::Flag, &O::no_verify, "", "output",
               "convert lora:convert lora:merge lora:unpack",
               "do not read back what was written; says so", ""},
    OptionSpec{"quiet", 'q', "", Form::Count, &O::quiet, "", "output", kAll,
               "-q refuted and last line; -qq nothing", ""},
    OptionSpec{
        "verbose", 'v', "", Form::Count, &O::verbose, "", "output",
        "check roundtrip convert diff fuzz mutate lora:check lora:convert lora:merge lora:unpack",
        "-v each rule; -vv each verdict", ""},
    OptionSpec{"color", 0, "colour", Form::Choice, &O::color, "auto|always|never", "output", kAll,
               "auto: terminals without NO_COLOR", "", "auto"},
    OptionSpec{"ascii", 0, "", Form::Flag, &O::ascii, "", "output", kAll, "no Unicode", ""},
    OptionSpec{"progress", 0, "", Form::Choice, &O::progress, "auto|always|never|json", "output",
               "check roundtrip convert diff mutate lora:check lora:convert lora:merge lora:unpack",
               "progress on stderr", "", "auto"},

    OptionSpec{"jobs", 'j', "", Form::Positive, &O::jobs, "N", "engine",
               "check roundtrip convert diff mutate lora:check lora:convert lora:merge lora:slice "
               "lora:unpack",
               "threads; default: all cores", ""},
    OptionSpec{"device", 0, "", Form::Text, &O::device, "cpu|cuda[:N]", "engine",
               "check roundtrip convert lora:merge",
               "where bytes are moved and adapters merged; cuda adds the claim gpu to check",
               "write --device cuda for the first GPU", "cpu"},
    OptionSpec{"collectives", 0, "", Form::Choice, &O::collectives, "sockets|nccl", "engine",
               "check roundtrip convert",
               "several processes: what carries bytes between them; nccl: one GPU a process", "",
               "sockets"},
    OptionSpec{
        "patience", 0, "", Form::Positive, &O::patience, "SECONDS", "engine",
        "check roundtrip convert diff lora:check lora:convert lora:merge lora:slice",
        "several processes (torchrun, srun, mpirun): how long one may neither move nor answer",
        "write --patience 600 for slow disks", "300"},
    OptionSpec{"seed", 0, "", Form::Unsigned, &O::seed, "N", "engine",
               "check roundtrip convert diff fuzz mutate fixture:make", "for everything random", "",
               "0; fuzz and mutate: 1"},
    OptionSpec{"seconds", 0, "", Form::Positive, &O::seconds, "N", "engine", "fuzz",
               "how long to draw worlds", "write --seconds 60", "10"},
    OptionSpec{"replay", 0, "", Form::Text, &O::replay, "FILE", "engine", "fuzz",
               "judges a saved world instead of drawing", "write --replay world-0.json"},
    OptionSpec{"operators", 0, "", Form::Names, &O::operators, "NAME,..", "engine", "mutate",
               "these mutation operators: DROP,SWAP; default: all", "write --operators DROP,SWAP"},
    OptionSpec{"survivors", 0, "", Form::Text, &O::survivors, "FILE", "engine", "mutate",
               "writes the mutants that no claim sees, one JSON object a line",
               "write --survivors survivors.jsonl"},

    OptionSpec{"timeout", 0, "", Form::Text, &O::unbuilt, "DURATION", "engine", kAll, "most time",
               "", "", "leave --timeout out; timeout(1) ends a run with SIGTERM, exit 143", false},
    OptionSpec{"mem-limit", 0, "", Form::Text, &O::unbuilt, "SIZE", "engine", kAll, "most memory",
               "", "", "leave --mem-limit out; ulimit -v limits a process, -j fewer threads",
               false},
    OptionSpec{"num-layers-per-virtual-pipeline-stage", 0, "", Form::Text, &O::unbuilt, "N",
               "layout", kAll, "as Megatron; decides --vpp", "", "",
               "write --vpp N: N = layers / (pp x layers per virtual stage)", false},
};

}  // namespace

std::span<const OptionSpec> option_specs() {
  return kOptions;
}

}  // namespace bv::cli
