# Writes OUT, the definition of the string NAME with the text of the file IN (cmake -DIN=... -DOUT=... -DNAME=...
# -DHEADER=... -P).
file(READ ${IN} text)
file(WRITE ${OUT} "#include \"${HEADER}\"\n\nnamespace stamp {\n\nconst std::string_view ${NAME} = R\"embedded(${text})embedded\";\n\n}  // namespace stamp\n")
