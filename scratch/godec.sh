. /work/env2.sh; cd /work/edit
exec python -m tasks.bundled.build vae-decoder --work /work/edit/build --target /work/base64
