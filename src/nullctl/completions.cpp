#include "nullctl/completions.h"

#include <CLI/CLI.hpp>

#include "base/text.h"

namespace nullbox::nullctl {

namespace {

struct Words {
    std::string path;                                          // "vault set"; empty: the top
    std::vector<std::pair<std::string, std::string>> commands; // and what they are about
    std::vector<std::string> options;
};

void collect(const CLI::App& app, const std::string& path, std::vector<Words>& out) {
    Words words{.path = path};
    for (const auto* option : app.get_options()) {
        for (const auto& name : option->get_lnames()) words.options.push_back("--" + name);
        for (const auto& name : option->get_snames()) words.options.push_back("-" + name);
    }
    for (const auto* inner : app.get_subcommands([](const CLI::App*) { return true; }))
        words.commands.emplace_back(inner->get_name(), inner->get_description());
    out.push_back(std::move(words));
    for (const auto* inner : app.get_subcommands([](const CLI::App*) { return true; }))
        collect(*inner, path.empty() ? inner->get_name() : cat(path, " ", inner->get_name()), out);
}

// Descriptions stand in single quotes in the scripts.
std::string shell_quoted(std::string_view text) {
    std::string out = "'";
    for (char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
    return out + "'";
}

std::string bash(const std::vector<Words>& all) {
    std::string cases;
    for (const auto& words : all) {
        std::string list;
        for (const auto& [name, about] : words.commands) list += name + " ";
        for (const auto& name : words.options) list += name + " ";
        cases += cat("        ", shell_quoted(words.path), ") words=", shell_quoted(trim(list)), " ;;\n");
    }
    return cat(
        "_nullctl() {\n    local path='' words='' i\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        case ${COMP_WORDS[i]} in -*) ;; *)\n"
        "            case \"$path\" in ?*\\ ?*) ;; '') path=${COMP_WORDS[i]} ;; *) path=\"$path "
        "${COMP_WORDS[i]}\" ;; esac\n"
        "        esac\n    done\n    case \"$path\" in\n",
        cases,
        "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
        "    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
        "complete -F _nullctl nullctl\n");
}

std::string zsh(const std::vector<Words>& all) {
    std::string cases;
    for (const auto& words : all) {
        cases += cat("        ", shell_quoted(words.path), ") choices=(");
        for (const auto& [name, about] : words.commands)
            cases += cat(shell_quoted(cat(name, ":", about)), " ");
        for (const auto& name : words.options) cases += cat(shell_quoted(name), " ");
        cases += ") ;;\n";
    }
    return cat("#compdef nullctl\n_nullctl() {\n    local path_='' word; local -a choices\n"
               "    for word in ${words[2,CURRENT-1]}; do\n        [[ $word == -* || $path_ == *' '* ]] && "
               "continue\n"
               "        path_=\"${path_:+$path_ }$word\"\n    done\n    case \"$path_\" in\n",
               cases,
               "    esac\n    (( ${#choices} )) && _describe nullctl choices || _files\n}\n"
               "compdef _nullctl nullctl\n");
}

std::string fish(const std::vector<Words>& all) {
    std::string out = "complete -c nullctl -f\n";
    for (const auto& words : all) {
        std::string condition = words.path.empty() ? "__fish_use_subcommand" : "";
        for (auto part : split(words.path, ' '))
            if (!part.empty())
                condition += cat(condition.empty() ? "" : "; and ", "__fish_seen_subcommand_from ", part);
        std::string known;
        for (const auto& [name, about] : words.commands) known += cat(" ", name);
        if (!words.path.empty() && !known.empty())
            condition += cat("; and not __fish_seen_subcommand_from", known);
        for (const auto& [name, about] : words.commands)
            out += cat("complete -c nullctl -n ", shell_quoted(condition), " -a ", name, " -d ",
                       shell_quoted(about), "\n");
        for (const auto& name : words.options)
            if (name.starts_with("--"))
                out += cat("complete -c nullctl -n ", shell_quoted(condition), " -l ",
                           std::string_view(name).substr(2), "\n");
    }
    return out;
}

} // namespace

std::string completions(const std::string& shell, const CLI::App& app) {
    std::vector<Words> all;
    collect(app, "", all);
    return shell == "bash" ? bash(all) : shell == "zsh" ? zsh(all) : fish(all);
}

} // namespace nullbox::nullctl
